"""A run sees that its input has changed, without reading it: a copy and a touch are no change."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmsynth as mm
from mmsynth.errors import SourceError
from mmsynth.sources.folder import Folder
from tests.sources.source_files import pairs, picture, write_tar


def folder(path: Path, caption: str) -> Path:
    path.mkdir(exist_ok=True)
    for i in range(4):
        (path / f"{i}.png").write_bytes(picture(i))
        (path / f"{i}.txt").write_text(caption)
    return path


def shards(path: Path, caption: str) -> Path:
    return write_tar(
        path, [(name, data if name.endswith("png") else caption.encode()) for name, data in pairs(*"abcd")]
    )


def parquet(path: Path, caption: str) -> Path:
    rows = [{"image": picture(i), "caption": caption} for i in range(4)]
    pq.write_table(pa.Table.from_pylist(rows), path, compression="none")
    return path


def jsonl(path: Path, caption: str) -> Path:
    (path.parent / "a.png").write_bytes(picture())
    path.write_text("".join(json.dumps({"image": "a.png", "caption": caption}) + "\n" for _ in range(4)))
    return path


def csv(path: Path, caption: str) -> Path:
    (path.parent / "a.png").write_bytes(picture())
    path.write_text("image,caption\n" + f"a.png,{caption}\n" * 4)
    return path


def prompts(path: Path, caption: str) -> Path:
    path.write_text(f"{caption}\n" * 4)
    return path


def dataset(path: Path, caption: str) -> Path:
    shutil.rmtree(path, ignore_errors=True)
    rows = {"image": [picture(i) for i in range(4)], "caption": [caption] * 4}
    datasets.Dataset.from_dict(rows).save_to_disk(str(path))
    return path


FORMS = [(folder, "in"), (shards, "in.tar"), (parquet, "in.parquet"), (jsonl, "in.jsonl"), (csv, "in.csv")]
Form = Callable[[Path, str], Path]
every_form = pytest.mark.parametrize(("form", "name"), [*FORMS, (prompts, "in.txt")])


def later(path: Path) -> None:
    """Every file below gets another time."""
    for file in [path, *path.rglob("*")]:
        os.utime(file, ns=(time.time_ns(), time.time_ns() + 10**9))


def run(path: Path, out: Path, **options: object) -> mm.Report:
    return mm.read(path).write(out, samples_per_shard=2, **options)


@every_form
def test_input_of_another_size_is_refused(form: Form, name: str, tmp_path: Path) -> None:
    path = form(tmp_path / name, "one")
    run(path, tmp_path / "out")
    form(path, "another, longer one" * 200)
    with pytest.raises(SourceError, match=r"source has changed since an earlier run wrote shard 00000 .*"):
        run(path, tmp_path / "out")


@every_form
def test_input_of_the_same_size_is_refused(form: Form, name: str, tmp_path: Path) -> None:
    path = form(tmp_path / name, "one")
    run(path, tmp_path / "out")
    form(path, "two")
    later(path)
    with pytest.raises(SourceError, match=r"since an earlier run wrote shard 00000 .* has other bytes"):
        run(path, tmp_path / "out")


@every_form
def test_a_touch_or_a_rewrite_of_the_same_bytes_is_no_change(form: Form, name: str, tmp_path: Path) -> None:
    path = form(tmp_path / name, "one")
    run(path, tmp_path / "out")
    form(path, "one")
    later(path)
    assert run(path, tmp_path / "out").already == 4


@pytest.mark.parametrize(("form", "name"), [(csv, "in.csv"), (jsonl, "in.jsonl"), (shards, "in.tar")])
def test_what_is_added_at_the_end_leaves_the_blocks_before_it_as_they_are(
    form: Form, name: str, tmp_path: Path
) -> None:
    path = form(tmp_path / name, "one")
    out = tmp_path / "out"
    run(path, out)
    if form is shards:
        write_tar(path, [(n, b"one" if n.endswith("txt") else data) for n, data in pairs(*"abcdef")])
    else:
        path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    report = run(path, out) if form is not shards else None
    assert report is None or (report.already, report.inputs) == (4, 5)


def test_an_image_that_a_table_names_is_part_of_its_content(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", "one")
    run(path, tmp_path / "out")
    (tmp_path / "a.png").write_bytes(picture(3) + b"more")
    with pytest.raises(SourceError, match="source has changed"):
        run(path, tmp_path / "out")


def test_where_no_digest_was_taken_the_user_says_that_it_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsynth.engine.content._MOST_BYTES", 10)
    path = folder(tmp_path / "in", "one")
    run(path, tmp_path / "out")
    later(path)
    with pytest.raises(SourceError, match=r"the newest is .* the same size and another time.* --ignore-times"):
        run(path, tmp_path / "out")
    assert run(path, tmp_path / "out", ignore_times=True).already == 4


def test_a_run_of_before_goes_on(tmp_path: Path) -> None:
    """Its stats say nothing of content."""
    from mmsynth.io.files import json_bytes, sealed, unsealed

    path = folder(tmp_path / "in", "one")
    run(path, tmp_path / "out")
    for stats in (tmp_path / "out").glob("*_stats.json"):
        known = unsealed(stats.read_bytes())
        assert known is not None
        del known["content"], known["sum"]
        stats.write_bytes(json_bytes(sealed(known)))
    folder(path, "two, longer")
    assert run(path, tmp_path / "out").already == 4


def test_a_saved_dataset_that_changed_is_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path / "in", "one")
    run(path, tmp_path / "out")
    assert run(path, tmp_path / "out").already == 4
    dataset(path, "another, longer one" * 20)
    with pytest.raises(SourceError, match="source has changed"):
        run(path, tmp_path / "out")


def test_parts_of_a_mixture_are_looked_at(tmp_path: Path) -> None:
    path, other = folder(tmp_path / "in", "one"), folder(tmp_path / "other", "one")
    for number, pipeline in enumerate([mm.concat(path, other), mm.mix({path: 1, other: 1})]):
        folder(other, "one")
        pipeline.write(tmp_path / f"out{number}", samples_per_shard=2)
        folder(other, "another one")
        with pytest.raises(SourceError, match="source has changed"):
            pipeline.write(tmp_path / f"out{number}", samples_per_shard=2)


def test_a_selection_sees_that_its_run_was_made_again(tmp_path: Path) -> None:
    path = folder(tmp_path / "in", "one")
    run(path, tmp_path / "run")
    mm.select(tmp_path / "run").write(tmp_path / "out")
    assert mm.select(tmp_path / "run").write(tmp_path / "out").already == 4
    shutil.rmtree(tmp_path / "run")
    run(folder(path, "two"), tmp_path / "run")
    with pytest.raises(SourceError, match="source has changed"):
        mm.select(tmp_path / "run").write(tmp_path / "out")


def test_a_large_folder_is_looked_at_in_seconds(tmp_path: Path) -> None:
    for i in range(10_000):
        (tmp_path / f"{i:06d}.jpg").write_bytes(b"")
    source = Folder(path=str(tmp_path))
    began = time.monotonic()
    assert sum(1 for one in source.slices(1000) for _ in source.files(one.payload)) == 10_000
    assert time.monotonic() - began < 3


def test_a_tar_at_a_url_that_changed_is_refused(tmp_path: Path) -> None:
    url = f"memory://content/{tmp_path.name}.tar"
    memory = fsspec.filesystem("memory")
    memory.pipe_file(url, shards(tmp_path / "in.tar", "one").read_bytes())
    mm.read(url).write(tmp_path / "out")
    assert mm.read(url).write(tmp_path / "out").already == 4
    memory.pipe_file(url, shards(tmp_path / "in.tar", "two" * 9000).read_bytes())
    with pytest.raises(SourceError, match=r"shard 00000 .*: .*\.tar has another size"):
        mm.read(url).write(tmp_path / "out")


def test_a_folder_at_a_url_that_changed_is_refused(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for i in range(3):
        memory.pipe_file(f"memory://content/{tmp_path.name}/{i}.png", picture(i))
    url = f"memory://content/{tmp_path.name}/"
    mm.read(url).write(tmp_path / "out")
    assert mm.read(url).write(tmp_path / "out").already == 3
    memory.pipe_file(f"memory://content/{tmp_path.name}/1.png", picture(1) + b"more")
    with pytest.raises(SourceError, match="source has changed"):
        mm.read(url).write(tmp_path / "out")
