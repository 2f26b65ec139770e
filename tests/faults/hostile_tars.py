"""Hostile tars: forged by hand, and real ones bent by a seeded fuzzer. Each tar ends in rows; nothing leaves the output."""

import gzip
import io
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from mmsynth.testing import photo_samples
from tests.engine.run_files import members, rows
from tests.faults.hostile_images import flipped, header_flipped, repeated, swapped, truncated
from tests.faults.measured import measured
from tests.faults.trial import Figure

MOST_MB = 700
_KEY = re.compile(r"[0-9A-Za-z_-]+")
_OUTPUT = re.compile(r"\d{5}\.(tar|parquet)|\d{5}_\w+\.(json|npy)|run\.json|index\.json|sizes\.json")


def figures(folder: Path, tars: int, seed: int) -> list[Figure]:
    """Write the tars, read them as a folder in a run of its own, and look at its rows, files and memory."""
    inputs, out = folder / "hostile-tars", folder / "hostile-tars-out"
    inputs.mkdir(parents=True)
    for name, data in hostile(tars, seed):
        (inputs / name).write_bytes(data)
    said, peak_mb, seconds = measured(out, f"read:{inputs}", {"threads": 2})
    wrong = [said] if said else []
    found = rows(out)
    wrong += [f"the key {row['key']!r}" for row in found if not _KEY.fullmatch(row["key"])]
    wrong += [f"{key}.{name} in a tar" for key, one in members(out).items() for name in one if "/" in name]
    wrong += [f"{path.name} in the output" for path in out.iterdir() if not _OUTPUT.fullmatch(path.name)]
    # a tar may be empty, or be its end mark alone: all others give a row at least
    told = {(row["source"] or "").partition("/")[0] for row in found}
    wrong += [f"{path.name} has no row" for path in sorted(inputs.iterdir()) if path.name not in told | EMPTY]
    if len({row["key"] for row in found}) != len(found):
        wrong.append("a key twice")
    if peak_mb > MOST_MB:
        wrong.append(f"peak memory {peak_mb:.0f} MB, over {MOST_MB}")
    kept = sum(row["status"] == "success" for row in found)
    note = f"{kept} samples kept, {len(found) - kept} failed rows; peak {peak_mb:.0f} MB; {seconds:.0f} s"
    return [Figure("hostile tars", "rows for each, nothing outside the output", tars, tars - len(wrong), note, wrong)]


#: tars that are whole and hold no sample
EMPTY = {"forged_end_mark_alone.tar", "forged_folders_alone.tar", "forged_gzip_of_zeros.tar"}


def hostile(tars: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name → bytes: the same for a seed."""
    rng = random.Random(f"{seed} tars")
    for name, data in (forged := list(forgeries())):
        yield f"forged_{name}.tar", data
    good = [made(ordinary(i), format) for i, format in enumerate((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))]
    for i in range(tars - len(forged)):
        mutate = rng.choice((truncated, flipped, header_flipped, swapped, repeated))
        data = rng.choice(good)
        # most of a tar is picture: aim at the headers every other time
        at = rng.randrange(len(data) // 512) * 512
        bent = data[:at] + mutate(rng, data[at:]) if rng.random() < 0.5 else mutate(rng, data)
        # a tar cut down to nothing but end mark is an empty one, and truly has no rows
        yield f"bent_{i:05d}_{mutate.__name__}.tar", bent if bent[:512].strip(b"\0") else b"x" + bent


Members = list[tuple[str | tarfile.TarInfo, bytes]]


def ordinary(number: int) -> Members:
    pictures = [sample.image.data for sample in photo_samples(4, 24) if sample.image]
    return [
        (f"{number}{i}.{ext}", picture if ext == "png" else b'{"caption": "words"}' if ext == "json" else b"words")
        for i, picture in enumerate(pictures)
        for ext in ("png", "txt", "json")
    ]


def made(what: Members, format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for name, data in what:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def forgeries() -> Iterator[tuple[str, bytes]]:
    """What no fuzzer finds: names that climb, links, sizes that lie, headers that never end."""
    good, picture = made(ordinary(0)), ordinary(0)[0][1]
    yield "empty", b""
    yield "end_mark_alone", bytes(10_240)
    yield "folders_alone", made([(link("a/", tarfile.DIRTYPE, ""), b"")])
    yield "no_end", good.rstrip(b"\0")
    yield "garbage", random.Random(1).randbytes(5_000)
    climbing = (
        "../../up.png",
        "/abs/olute.png",
        "a/../../b.png",
        "..png",
        "...png",
        "C:\\w.png",
        "a\nb.png",
        "~/x.png",
    )
    yield "climbing_names", made([(name, picture) for name in climbing])
    yield "climbing_extensions", made([("k.png", picture), ("k./../../x", b"1"), ("k...", b"2"), ("k.a.b.c", b"3")])
    yield "nul_names", made([("a.png", picture)]).replace(b"a.png", b"a\0p/g")
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)
    yield "links", made([(link(f"l{i}.png", kind, "/etc/passwd"), b"") for i, kind in enumerate(kinds)])
    yield "one_name_often", made([("same.png", picture)] * 50)
    yield "many_suffixes", made([("k.png", picture), *((f"k.s{i}", b"") for i in range(2_000))])
    yield "long_names", made([("n" * 5_000 + ".png", picture)], tarfile.PAX_FORMAT)
    yield "wrong_checksum", good[:148] + b"0000000\0" + good[156:]
    yield "huge_size", _with_size(good, b"77777777777\0")
    yield "huge_binary_size", _with_size(good, b"\x80" + b"\x7f" * 11)
    yield "negative_size", _with_size(good, b"\xff" * 12)
    pax = tarfile.TarInfo("p.png")
    pax.pax_headers = {"path": "../" * 40 + "etc/p.png", "size": "99999999999999", "GNU.sparse.major": "1"}
    yield "pax_that_lies", made([(pax, picture)], tarfile.PAX_FORMAT)
    name = tarfile.TarInfo("././@LongLink")
    name.type = tarfile.GNUTYPE_LONGNAME
    yield "names_without_end", made([(name, b"x" * 600)] * 400)
    yield "a_name_of_a_megabyte", made([(name, b"x" * (2**20 - 1)), ("y.png", picture)])
    yield (
        "pickles",
        made(
            [
                ("k.png", picture),
                ("k.pyd", b"cos\nsystem\n(S'false'\ntR."),
                ("k.pth", b"\x80\x04."),
                ("k.npy", b"\x93NUMPY"),
            ]
        ),
    )
    yield "deep_json", made([("k.png", picture), ("k.json", b"[" * 200_000)])
    yield "gzip_of_zeros", gzip.compress(bytes(2**26))
    yield "gzip_bomb", gzip_bomb(3 * 2**30)
    yield "half_a_gzip", gzip.compress(good)[:200]


def gzip_bomb(size: int) -> bytes:
    """A gzipped tar with one member of `size` zeros, and then a good sample."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
        file.write(_with_size(made([("bomb.png", b"")])[:512], b"%011o\0" % size))
        for _ in range(size // 2**20):
            file.write(bytes(2**20))
        file.write(made(ordinary(9)))
    return buffer.getvalue()


def _with_size(tar: bytes, size: bytes) -> bytes:
    header = bytearray(tar[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + tar[512:]
