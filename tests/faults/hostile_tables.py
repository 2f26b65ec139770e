"""Hostile parquet files: real ones bent by a seeded fuzzer. Each ends in rows; none takes the run with it."""

import io
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmsynth.testing import photo_samples
from tests.engine.run_files import rows
from tests.faults.hostile_images import flipped, large_numbers, swapped, truncated
from tests.faults.measured import measured
from tests.faults.trial import Figure

MOST_MB = 900


def figures(folder: Path, tables: int, seed: int) -> list[Figure]:
    """Write the tables, read them as a folder in a run of its own, and look at its rows and its memory."""
    inputs, out = folder / "hostile-tables", folder / "hostile-tables-out"
    inputs.mkdir(parents=True)
    for name, data in hostile(tables, seed):
        (inputs / name).write_bytes(data)
    said, peak_mb, seconds = measured(out, f"read:{inputs}", {"threads": 2})
    wrong = [said] if said else []
    found = rows(out)
    told = {re.sub(r":\d+$", "", row["source"] or "") for row in found}
    wrong += [f"{path.name} has no row" for path in sorted(inputs.iterdir()) if path.name not in told]
    if peak_mb > MOST_MB:
        wrong.append(f"peak memory {peak_mb:.0f} MB, over {MOST_MB}")
    kept = sum(row["status"] == "success" for row in found)
    note = f"{kept} samples kept, {len(found) - kept} failed rows; peak {peak_mb:.0f} MB; {seconds:.0f} s"
    return [Figure("hostile parquet", "rows for each, no crash, no hang", tables, tables - len(wrong), note, wrong)]


def hostile(tables: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Name → bytes: the same for a seed. The first is a good one, by which the run knows the columns."""
    rng = random.Random(f"{seed} tables")
    good = [table(checksums) for checksums in (True, False)]
    yield "00000_good.parquet", good[0]
    yield "00001_empty.parquet", b""
    yield "00002_marks_alone.parquet", b"PAR1PAR1"
    yield "00003_other_columns.parquet", written(pa.table({"caption": ["no image"], "n": [1]}))
    yield "00004_other_types.parquet", written(pa.table({"image": [1.5, None], "caption": [[1], [2]]}))
    yield "00005_paths.parquet", written(pa.table({"image": ["../../etc/passwd", "/etc/passwd", "\0", "x" * 9_000]}))
    for i in range(6, tables):
        mutate = rng.choice((truncated, flipped, large_numbers, swapped))
        data = rng.choice(good)
        # the footer is small and decides everything: aim at it every other time
        at = len(data) - 1200 if rng.random() < 0.5 else 0
        yield f"{i:05d}_{mutate.__name__}.parquet", data[:at] + mutate(rng, data[at:])


def table(checksums: bool) -> bytes:
    pictures = [sample.image.data for sample in photo_samples(6, 24) if sample.image]
    columns = {"image": pictures, "caption": ["words"] * 6, "n": list(range(6)), "list": [[1, 2]] * 6}
    return written(pa.table(columns), row_group_size=3, write_page_checksum=checksums)


def written(what: pa.Table, **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(what, buffer, **options)
    return buffer.getvalue()
