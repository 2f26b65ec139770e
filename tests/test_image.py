"""Whatever an image file is like, it becomes upright 8-bit RGB, or an ImageError with its reason."""

import io
import pickle
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage

from mmsynth.errors import ImageError
from mmsynth.image import MAX_FILE_BYTES, MAX_PIXELS, Image, _Room

# PIL's warnings about odd tags and bombs: pytest resets the filter that mmsynth sets
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")

PHOTOS = Path(skimage.__file__).parent / "data"
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encode(picture: PIL.Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def corners(width: int = 40, height: int = 20) -> PIL.Image.Image:
    """Red at the top left, green at the top right, blue below."""
    picture = PIL.Image.new("RGB", (width, height), BLUE)
    picture.paste(RED, (0, 0, width // 2, height // 2))
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    return picture


def near(colour: Any, expected: tuple[int, int, int], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, expected, strict=True))


def reason(image: Image) -> str:
    with pytest.raises(ImageError) as caught:
        image.pixels()
    return caught.value.reason


def test_bytes_stay_as_they_came_and_pixels_are_those_of_pil() -> None:
    for name in ("astronaut.png", "rocket.jpg", "camera.png", "no_time_for_that_tiny.gif"):
        data = (PHOTOS / name).read_bytes()
        image = Image.from_file(PHOTOS / name)
        with PIL.Image.open(PHOTOS / name) as opened:
            assert (image.format, image.width, image.height) == (opened.format, *opened.size)
        assert image.pixels().mode == "RGB"
        assert image.data == data
    with PIL.Image.open(PHOTOS / "rocket.jpg") as opened:
        assert np.array_equal(np.asarray(Image.from_file(PHOTOS / "rocket.jpg").pixels()), np.asarray(opened))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_to_pixels_and_size(format: str, orientation: int) -> None:
    undo = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    upright = corners()
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"subsampling": 0} if format == "JPEG" else {}
    image = Image(encode(stored, format, exif=exif, **options))
    assert (image.width, image.height) == (40, 20)
    pixels = image.pixels()
    assert pixels.size == (40, 20)
    assert near(pixels.getpixel((4, 4)), RED)
    assert near(pixels.getpixel((35, 4)), GREEN)
    assert near(pixels.getpixel((20, 16)), BLUE)


def test_a_broken_exif_block_does_not_make_a_picture_unreadable() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encode(corners(), "JPEG", exif=exif))
    at = data.index(b"Exif\0\0") + 6
    for position in range(at, at + 20):
        broken = bytearray(data)
        broken[position] = 0xFF
        assert sorted(Image(bytes(broken)).pixels().size) == [20, 40]


def test_cmyk_becomes_rgb() -> None:
    pixels = Image(encode(corners().convert("CMYK"), "JPEG", quality=95)).pixels()
    assert pixels.mode == "RGB"
    assert near(pixels.getpixel((4, 4)), RED, 24)
    assert Image(encode(corners().convert("CMYK"), "TIFF")).pixels().getpixel((20, 16)) == BLUE


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_greys_are_scaled_and_not_clipped(format: str) -> None:
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    pixels = np.asarray(Image(encode(PIL.Image.fromarray(ramp), format)).pixels())
    assert np.abs(pixels[..., 0].astype(int).ravel() - np.arange(256)).max() <= 1


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    dark = np.full((4, 4), 200, np.uint16)
    assert Image(encode(PIL.Image.fromarray(dark), "PNG")).pixels().getpixel((0, 0)) == (1, 1, 1)


def test_sixteen_bit_colour_png_is_read() -> None:
    rows = b"".join(b"\0" + struct.pack(">6H", 65535, 0, 0, 0, 32768, 65535) for _ in range(2))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [
            (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ]
    )
    pixels = Image(data).pixels()
    assert pixels.getpixel((0, 0)) == RED
    assert near(pixels.getpixel((1, 0)), (0, 128, 255), 1)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0, 100_000.0])
def test_float_tiffs_are_scaled_by_their_range_and_nan_is_black(top: float) -> None:
    values = np.linspace(0, top, 64, dtype=np.float32).reshape(8, 8)
    values[0, 0] = np.nan
    values[0, 1] = np.inf
    pixels = np.asarray(Image(encode(PIL.Image.fromarray(values), "TIFF")).pixels())
    assert pixels.max() == 255
    assert pixels[0, 0, 0] == pixels[0, 1, 0] == 0


def test_transparency_lies_on_white() -> None:
    clear = PIL.Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    clear.paste((255, 0, 0, 255), (0, 0, 4, 8))
    for data in (encode(clear, "PNG"), encode(clear, "WEBP", lossless=True)):
        pixels = Image(data).pixels()
        assert (pixels.getpixel((0, 0)), pixels.getpixel((7, 0))) == (RED, WHITE)
    half = PIL.Image.new("LA", (4, 4), (0, 128))
    assert near(Image(encode(half, "PNG")).pixels().getpixel((0, 0)), (127, 127, 127), 1)


def test_a_palette_with_alpha_lies_on_white() -> None:
    palette = PIL.Image.new("P", (8, 8), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.paste(1, (4, 0, 8, 8))
    for transparency in (0, bytes([0, 255, 255])):
        for format in ("PNG", "GIF") if transparency == 0 else ("PNG",):
            pixels = Image(encode(palette, format, transparency=transparency)).pixels()
            assert (pixels.getpixel((0, 0)), pixels.getpixel((7, 0))) == (WHITE, GREEN)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_is_seen(format: str) -> None:
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    image = Image(data)
    assert image.pixels().getpixel((4, 4)) == RED
    assert image.data == data


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_one_pixel_is_an_image(format: str) -> None:
    image = Image(encode(PIL.Image.new("RGB", (1, 1), WHITE), format))
    assert (image.width, image.height, image.pixels().size) == (1, 1, (1, 1))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_other_modes_become_rgb(mode: str) -> None:
    pixels = Image(encode(PIL.Image.new("RGB", (4, 4), WHITE).convert(mode), "PNG")).pixels()
    assert (pixels.mode, pixels.getpixel((0, 0))) == ("RGB", WHITE)


def test_the_format_is_told_by_content() -> None:
    for format, extension in [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("TIFF", "tiff")]:
        assert Image(encode(corners(), format)).extension == extension


def test_zero_bytes_are_empty() -> None:
    assert reason(Image(b"")) == "image_empty"


@pytest.mark.parametrize("data", [b"just some text", b"%PDF-1.7\n", b"\0" * 600, b"\xff\xd8\xff", b"GIF89a"])
def test_what_is_no_image_is_unreadable(data: bytes) -> None:
    assert reason(Image(data)) == "image_unreadable"
    with pytest.raises(ImageError):
        _ = Image(data).width


def test_formats_that_run_other_programs_are_not_tried() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert reason(Image(postscript)) == "image_unreadable"


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_truncated_image_is_told_apart(format: str) -> None:
    data = encode(PIL.Image.effect_noise((200, 200), 60).convert("RGB"), format)
    assert reason(Image(data[: len(data) // 2])) == "image_truncated"


def test_a_photograph_cut_inside_its_header_is_truncated() -> None:
    data = (PHOTOS / "rocket.jpg").read_bytes()
    assert reason(Image(data[:150])) == "image_truncated"


@pytest.mark.parametrize("format", ["GIF", "WEBP"])
def test_a_truncated_image_of_another_format_fails_too(format: str) -> None:
    data = encode(PIL.Image.effect_noise((200, 200), 60).convert("RGB"), format)
    assert reason(Image(data[: len(data) // 2])) in {"image_truncated", "image_unreadable"}


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is this large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        + struct.pack(">I", 4) + b"IDAT" + b"\0\0\0\0" + struct.pack(">I", zlib.crc32(b"IDAT" + b"\0\0\0\0"))
    )  # fmt: skip


@pytest.mark.parametrize("size", [(100_000, 100_000), (10_000, 9_000), (1, MAX_PIXELS + 1)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    assert reason(Image(bomb(*size))) == "image_too_large"


def test_a_bomb_is_refused_where_warnings_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reason(Image(bomb(10_000, 9_000))) == "image_too_large"


def test_a_file_that_cannot_be_read_has_its_reason(tmp_path: Path) -> None:
    assert reason(Image.from_file(tmp_path / "gone.jpg")) == "image_unreadable"
    assert reason(Image.from_file(tmp_path)) == "image_unreadable"


def test_a_gigantic_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "big.jpg").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # a hole: it takes no space
    assert reason(Image.from_file(tmp_path / "big.jpg")) == "image_too_large"


def test_damaged_bytes_give_an_image_error_and_nothing_else() -> None:
    draw = random.Random(3)
    noise = PIL.Image.effect_noise((40, 30), 60).convert("RGB")
    reasons = set()
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = encode(noise, format)
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 5)):
                data[draw.randrange(min(len(data), 400))] = draw.randrange(256)
            try:
                Image(bytes(data)).pixels()
            except ImageError as error:
                reasons.add(error.reason)
    assert reasons == {"image_unreadable", "image_truncated", "image_too_large"}


def test_a_drawn_image_is_encoded_once_and_keeps_its_size() -> None:
    drawn = Image.from_pixels(corners())
    assert (drawn.format, drawn.width, drawn.height) == ("PNG", 40, 20)
    for format, name in [("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")]:
        encoded = drawn.encoded(format)
        assert encoded.format == name
        assert near(encoded.pixels().getpixel((4, 4)), RED)
        assert encoded.encoded("png") is encoded


def test_a_drawn_image_with_transparency_lies_on_white() -> None:
    drawn = Image.from_pixels(PIL.Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert drawn.pixels().getpixel((0, 0)) == WHITE
    assert near(drawn.encoded("jpg").pixels().getpixel((0, 0)), WHITE, 2)


def test_images_travel_to_other_processes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encode(corners(), "PNG"))
    for image in (Image.from_file(tmp_path / "a.png"), Image(encode(corners(), "PNG")), Image.from_pixels(corners())):
        copy = pickle.loads(pickle.dumps(image))
        assert copy == image
        assert copy.pixels().getpixel((4, 4)) == RED


def test_verify_raises_what_pixels_would() -> None:
    Image(encode(corners(), "JPEG")).verify()
    with pytest.raises(ImageError, match="image_empty"):
        Image(b"").verify()


# -- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "I;16", "I", "F"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_picture_is_converted_in_strips_to_the_same_pixels(
    mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.arange(30 * 47).reshape(30, 47)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    if mode in {"I;16", "I", "F"}:
        drawn = PIL.Image.fromarray(values.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 7)
        data = encode(drawn, "TIFF", exif=exif)
    else:
        noise = np.random.default_rng(1).integers(0, 256, (30, 47, 4), dtype=np.uint8)
        drawn = PIL.Image.fromarray(noise).convert(mode)
        transparent = {"P": bytes(range(256)), "RGB": drawn.getpixel((3, 3))}.get(mode)
        data = encode(drawn, "PNG", exif=exif, **({"transparency": transparent} if transparent else {}))
    at_once = np.asarray(Image(data).pixels())
    monkeypatch.setattr("mmsynth.rgb._PIXELS_A_STRIP", 100)
    assert np.array_equal(np.asarray(Image(data).pixels()), at_once)


def test_a_large_transparent_picture_stands_twice_in_memory_and_not_five_times() -> None:
    """Each copy of 20 megapixels takes 80 MB: there is room for three."""
    code = """
import io, resource, psutil, PIL.Image
from mmsynth.image import Image
buffer = io.BytesIO()
PIL.Image.new("RGBA", (5_000, 4_000), (9, 9, 9, 99)).save(buffer, "PNG", compress_level=1)
room = psutil.Process().memory_info().vms + 240 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (room, room))
print(Image(buffer.getvalue()).pixels().getpixel((4_999, 3_999)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(159, 159, 159)\n", done.stderr[-500:]


def test_threads_decode_no_more_at_once_than_there_is_room_for() -> None:
    room, most, running = _Room(100), [0], [0]
    lock = threading.Lock()

    def decode(pixels: int) -> None:
        with room.taken(pixels):
            with lock:
                running[0] += pixels
                most[0] = max(most[0], running[0])
            time.sleep(0.005)
            with lock:
                running[0] -= pixels

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(decode, [40, 60, 100, 10] * 10))
    assert (most[0] <= 100, most[0] >= 60, running[0]) == (True, True, 0)
