"""Hostile images: real photographs bent and broken by a seeded fuzzer, and forgeries. Each gets a row; none crashes."""

import io
import random
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image

from tests.engine.run_files import rows
from tests.faults.measured import measured
from tests.faults.trial import Figure
from tests.photos import photographs

#: a WebP of MAX_PIXELS stands four times in memory with 4 bytes a pixel, all others less; however many threads there
#: are, there is room for two at once, and a finished one in each of the others; the rest is Python and its imports
THREADS = 4
MOST_MB = 89.5 * 4 * (2 * 4 + THREADS - 2) + 300
#: a square of MAX_PIXELS, nearly
LARGEST_PX = 9_400
_SIDE_PX = 320
_IMAGES_A_PHOTOGRAPH = 50


def figures(folder: Path, images: int, seed: int, largest_px: int = LARGEST_PX) -> list[Figure]:
    """Write the images, read them as a folder in a run of its own, and look at its rows and its memory."""
    inputs = folder / "hostile-images"
    inputs.mkdir(parents=True)
    for name, data in hostile(images, seed, largest_px):
        (inputs / name).write_bytes(data)
    said, peak_mb, seconds = measured(folder / "hostile-images-out", f"read:{inputs}", {"threads": THREADS})
    wrong = [said] if said else []
    found = {row["source"]: row for row in rows(folder / "hostile-images-out")}
    wrong += [f"{path.name} has no row" for path in sorted(inputs.iterdir()) if path.name not in found]
    failed = [row for row in found.values() if row["status"] == "failed"]
    wrong += [f"{row['source']}: {row['reason']}" for row in failed if not row["reason"].startswith("image_")]
    if peak_mb > MOST_MB:
        wrong.append(f"peak memory {peak_mb:.0f} MB, over {MOST_MB:.0f}")
    told = ", ".join(f"{n} {reason}" for reason, n in Counter(row["reason"] for row in failed).most_common())
    note = f"{images - len(failed)} kept; {told}; peak {peak_mb:.0f} MB; {seconds:.0f} s"
    return [Figure("hostile images", "a row for each, no crash, no hang", images, images - len(wrong), note, wrong)]


def hostile(images: int, seed: int, largest_px: int) -> Iterator[tuple[str, bytes]]:
    """Name → bytes: the same for a seed."""
    rng = random.Random(f"{seed} images")
    some = photographs()[: max(2, images // _IMAGES_A_PHOTOGRAPH)]
    real = [data for path in some for data in encodings(path)]
    forged = list(forgeries(real, largest_px))
    for i in range(images):
        if i < len(forged):
            name, data = forged[i]
            yield f"{i:05d}_{name}", data
            continue
        mutate = rng.choice(MUTATIONS)
        data = mutate(rng, rng.choice(real))
        if rng.random() < 0.2:
            data = rng.choice(MUTATIONS)(rng, data)
        yield f"{i:05d}_{mutate.__name__}.{rng.choice(('jpg', 'png', 'webp', 'gif', 'tiff', 'bmp'))}", data


def encodings(path: Path) -> Iterator[bytes]:
    """A photograph in all formats and odd modes."""
    with PIL.Image.open(path) as opened:
        opened.thumbnail((_SIDE_PX, _SIDE_PX))
        picture = opened.convert("RGB")
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        yield saved(picture, format)
    yield saved(picture.convert("CMYK"), "JPEG")
    yield saved(PIL.Image.fromarray(np.asarray(picture.convert("L"), np.uint16) * 257), "PNG")
    yield saved(picture.convert("P"), "PNG", transparency=bytes(range(256)))
    yield saved(picture.convert("RGBA"), "PNG", compress_level=1)
    frames = [picture.rotate(angle) for angle in (90, 180)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        yield saved(picture, format, save_all=True, append_images=frames)
    exif = PIL.Image.Exif()
    for orientation in (3, 6, 8, 65535):
        exif[0x0112] = orientation
        yield saved(picture, "JPEG", exif=exif)
    yield saved(picture, "JPEG", progressive=True)
    yield saved(picture, "TIFF", compression="tiff_lzw")


def saved(picture: PIL.Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


# -- mutations --------------------------------------------------------------------------------------------------------


def truncated(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(changed), rng.choice((1, 4, 32, 256)))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def header_flipped(rng: random.Random, data: bytes) -> bytes:
    return flipped(rng, data[:64]) + data[64:] if data else data


def swapped(rng: random.Random, data: bytes) -> bytes:
    """Two pieces change places."""
    a, b, c, d = sorted(rng.randrange(len(data) + 1) for _ in range(4))
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def repeated(rng: random.Random, data: bytes) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:b][:65_536] * rng.randint(1, 3) + data[b:]


def large_numbers(rng: random.Random, data: bytes) -> bytes:
    """Numbers of 2 and 4 bytes, sizes among them, become as large as they can be."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, min(len(changed), rng.choice((64, 1024)))))
        changed[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)))
    return bytes(changed)


def noise(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(40)] + rng.randbytes(rng.randrange(5000))


def polyglot(rng: random.Random, data: bytes) -> bytes:
    """An image that is a zip, a script or a page as well."""
    other = rng.choice((b"PK\x03\x04" + bytes(26), b"<script>alert(1)</script>", b"#!/bin/sh\nrm -rf /\n", b"%PDF-1.7"))
    return data + other if rng.random() < 0.7 else other + data


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    truncated,
    flipped,
    header_flipped,
    swapped,
    repeated,
    large_numbers,
    noise,
    polyglot,
)


# -- forgeries --------------------------------------------------------------------------------------------------------


def forgeries(real: list[bytes], largest_px: int) -> Iterator[tuple[str, bytes]]:
    """What no fuzzer finds: bombs, lying headers, empty files, the largest that are allowed."""
    largest = (largest_px, largest_px)
    yield "empty.jpg", b""
    yield "one_byte.png", b"\x89"
    yield "bomb.png", _png(30_000, 30_000, zlib.compress(bytes(30_000 * 30), 9))
    yield "bomb_2_31.png", _png(2**31 - 1, 2**31 - 1, zlib.compress(bytes(100)))
    yield "lies_within_limits.png", _png(9_400, 9_400, zlib.compress(bytes(100)))
    yield "largest_allowed.png", saved(PIL.Image.new("RGBA", largest, (9, 9, 9, 99)), "PNG", compress_level=1)
    yield "largest_allowed.gif", _gif(*largest)
    yield "largest_allowed.webp", saved(PIL.Image.new("RGB", largest, (9, 9, 9)), "WEBP", method=0)
    yield "largest_deep.png", saved(PIL.Image.new("I;16", largest, 900), "PNG", compress_level=1)
    on_its_side = PIL.Image.Exif()
    on_its_side[0x0112] = 6
    yield "largest_on_its_side.jpg", saved(PIL.Image.new("RGB", largest), "JPEG", exif=on_its_side)
    yield "no_pixels.png", _png(0, 0, b"")
    yield (
        "negative.bmp",
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, *[0] * 6),
    )
    yield "bomb.gif", _gif(65_535, 65_535)
    yield "endless_frames.gif", _gif(10, 10)[:-1] + _FRAME * 20_000
    yield "text_bomb.png", _png(4, 4, zlib.compress(bytes(52)), (b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26), 9)))
    yield "profile_bomb.png", _png(4, 4, zlib.compress(bytes(52)), (b"iCCP", b"k\0\0" + zlib.compress(bytes(2**26), 9)))
    yield "loop.tiff", b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<I", 8)
    yield "many_tags.tiff", b"II*\0\x08\0\0\0" + struct.pack("<H", 65_535) + bytes(12 * 100)
    yield "postscript.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch /tmp/owned) (w) file\n"
    yield "page.png", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield "wrong_extension.gif", real[0]


def _png(width: int, height: int, pixels: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    whole = [(b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    parts = (struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in whole)
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


_FRAME = b"\x2c" + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02\x44\x01\0"


def _gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + _FRAME + b";"
