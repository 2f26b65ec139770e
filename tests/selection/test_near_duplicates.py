"""Near-duplicates in select: found by the hashes and embeddings that filters keep beside the shards, and by captions."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.errors import RecipeError
from mmsynth.image import Image
from mmsynth.sample import Sample
from mmsynth.selection import Rows
from tests.engine.run_files import members, records
from tests.photos import photographs
from tests.selection.runs import kept, scored, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs with captions, and of three of them a smaller, recompressed copy with another caption."""
    folder = tmp_path_factory.mktemp("images")
    for i, path in enumerate(photographs(6)):
        picture = PIL.Image.open(path).convert("RGB")
        picture.save(folder / f"p{i}.png")
        (folder / f"p{i}.txt").write_text(f"the photograph of a thing that is number {i} and of nothing else at all")
        if i < 3:
            picture.resize((picture.width // 2, picture.height // 2)).save(folder / f"p{i}-copy.jpg", quality=40)
            (folder / f"p{i}-copy.txt").write_text(f"copy {i}")
    return folder


@pytest.fixture(scope="module")
def hashed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "hashed"
    mm.read(folder).filter("perceptual_hash").filter("clip", embeddings=True).write(out, samples_per_shard=4)
    return out


def told(out: Path) -> dict[str, tuple[str, str]]:
    """Who went, with who stays for it and why."""
    with (out / "duplicates.csv").open(newline="") as file:
        return {row["key"]: (row["stays"], row["reason"]) for row in csv.DictReader(file)}


def test_arrays_lie_beside_the_shards_a_row_for_each_kept_sample(hashed: Path) -> None:
    by_key = members(hashed)
    for tar in sorted(hashed.glob("*.tar")):
        keys = Rows([hashed]).query(_in_shard(tar)).fetchall()
        assert keys
        hashes = np.load(hashed / f"{tar.stem}_phash.npy", allow_pickle=False)
        image = np.load(hashed / f"{tar.stem}_image.npy", allow_pickle=False)
        assert (hashes.dtype, image.dtype) == (np.uint64, np.float16)
        assert len(hashes) == len(image) == len(Rows([hashed]).query(_in_shard(tar)).fetchall())
        assert np.linalg.norm(image.astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)
        for (key,), value in zip(Rows([hashed]).query(_in_shard(tar)).fetchall(), hashes, strict=True):
            assert json.loads(by_key[key]["json"])["phash"] == f"{int(value):016x}"


def _in_shard(tar: Path) -> str:
    return f"SELECT key FROM samples WHERE shard = {int(tar.stem)} AND status = 'success' ORDER BY tar_start"


def test_a_sample_that_was_dropped_has_no_row(folder: Path, tmp_path: Path) -> None:
    mm.read(folder).filter("perceptual_hash").filter("caption_length", min_words=5).write(tmp_path / "out")
    assert len(np.load(tmp_path / "out/00000_phash.npy")) == 6
    mm.select(tmp_path / "out", near_duplicates="hash").write(tmp_path / "selected")
    assert len(kept(tmp_path / "selected")) == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_of_images_nearly_the_same_the_best_stays_and_is_named(hashed: Path, tmp_path: Path, workers: int) -> None:
    decision = mm.select(hashed, near_duplicates={"hash": 6}, by="length(caption)")
    decision.write(tmp_path / "out", workers=workers, samples_per_shard=2)
    assert kept(tmp_path / "out") == {f"p{i}" for i in range(6)}
    assert told(tmp_path / "out") == {f"p{i}-copy": (f"p{i}", "near duplicate") for i in range(3)}
    assert json.loads((tmp_path / "out/selection.json").read_text())["dropped"] == {"near duplicate": 3}
    mm.select(hashed, near_duplicates=["hash"], by="-length(caption)").write(tmp_path / "copies")
    assert kept(tmp_path / "copies") == {"p0-copy", "p1-copy", "p2-copy", "p3", "p4", "p5"}


def test_by_embeddings_too(hashed: Path, tmp_path: Path) -> None:
    image: dict[str, Any] = {}
    for tar in sorted(hashed.glob("*.tar")):
        keys = [key for (key,) in Rows([hashed]).query(_in_shard(tar)).fetchall()]
        image |= dict(zip(keys, np.load(hashed / f"{tar.stem}_image.npy").astype(np.float64), strict=True))
    nearest = min(float(image[f"p{i}"] @ image[f"p{i}-copy"]) for i in range(3))
    mm.select(hashed, near_duplicates={"embedding": nearest - 1e-3}, by="length(caption)").write(tmp_path / "out")
    assert not {f"p{i}-copy" for i in range(3)} & kept(tmp_path / "out")


def test_by_captions_and_over_several_runs(tmp_path: Path) -> None:
    long = "a dog runs over a green field while two children look on from the old wooden gate"
    a = [
        Sample(s.key, s.image, long.replace("dog", word))
        for s, word in zip(scored(3), ["dog", "cat", "cow"], strict=True)
    ]
    b = [Sample(f"b{i}", s.image, s.caption) for i, s in enumerate(scored(3))]
    runs = write_run(tmp_path / "a", a), write_run(tmp_path / "b", [*b, Sample("b3", b[0].image, long)])
    mm.select(*runs, near_duplicates={"caption": 0.7}).write(tmp_path / "out")
    assert kept(tmp_path / "out") == {"b0", "b1", "b2", "b3"}
    assert set(told(tmp_path / "out").values()) == {("b3", "near duplicate")}


def test_exact_duplicates_are_named_as_well(tmp_path: Path) -> None:
    samples = scored(3)
    again = Sample("again", samples[1].image, "the same picture").with_scores(clip=0.9)
    mm.select(write_run(tmp_path / "run", [*samples, again]), dedup=True, by="clip").write(tmp_path / "out")
    assert told(tmp_path / "out") == {"k001": ("again", "duplicate")}


def test_every_one_that_went_names_one_that_is_there(tmp_path: Path) -> None:
    """Also where the one that it went for goes in turn: the same bytes twice, and the picture that they are a copy of."""
    (path, *_) = photographs(1)
    with PIL.Image.open(path) as picture:
        whole = picture.convert("RGB").resize((200, 160))
    (tmp_path / "images").mkdir()
    whole.save(tmp_path / "images/whole.png")
    for name in ("copy-1", "copy-2"):
        whole.resize((100, 80)).save(tmp_path / f"images/{name}.jpg")
    mm.read(tmp_path / "images").filter("perceptual_hash").write(tmp_path / "hashed")
    chosen = mm.select(tmp_path / "hashed", dedup=True, near_duplicates="hash", by="width")
    chosen.write(tmp_path / "out")
    assert kept(tmp_path / "out") == {"whole"}
    assert told(tmp_path / "out") == {"copy-1": ("whole", "near duplicate"), "copy-2": ("whole", "duplicate")}


def test_on_the_command_line(hashed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["select", str(hashed), str(tmp_path / "out"), "--near-duplicates", "hash,caption=0.9"]
    assert run([*arguments, "--dry-run"]) == 0
    assert "near duplicate" in capsys.readouterr().out
    assert run(["select", str(hashed), str(tmp_path / "out"), "--near-duplicates", "hash=many"]) != 0
    assert "hash=many" in capsys.readouterr().err


def test_flat_pictures_are_nobodys_duplicates_by_hash_and_are_counted(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "flat").mkdir()
    for colour in ("red", "green", "white"):
        PIL.Image.new("RGB", (64, 64), colour).save(tmp_path / f"flat/{colour}.png")
    for name in ("photograph", "again"):
        PIL.Image.open(photographs(1)[0]).convert("RGB").save(tmp_path / f"flat/{name}.png")
    mm.read(tmp_path / "flat").filter("perceptual_hash").write(tmp_path / "run")
    assert records(tmp_path / "run")["red"]["phash"] is None
    out = tmp_path / "out"
    assert run(["select", str(tmp_path / "run"), str(out), "--near-duplicates", "hash"]) == 0
    assert kept(out) == {"red", "green", "white", "again"}
    assert json.loads((out / "selection.json").read_text())["without_hash"] == 3
    assert "flat pictures" in capsys.readouterr().out


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    bare = write_run(tmp_path / "bare", scored(3))
    with pytest.raises(
        RecipeError,
        match=r"no 00000_phash\.npy. The filter .perceptual_hash. writes it: mmsynth filter .* perceptual_hash",
    ):
        mm.select(bare, near_duplicates="hash").write(tmp_path / "out")
    with pytest.raises(RecipeError, match=r"mmsynth filter .* OUT --filter clip --set embeddings=true"):
        mm.select(bare, near_duplicates="embedding").write(tmp_path / "out")
    with pytest.raises(RecipeError, match="cannot compare sound; choose from hash, embedding, caption"):
        mm.select(bare, near_duplicates="sound").write(tmp_path / "out")


@pytest.mark.parametrize("bound", ["caption=70", "caption=0", "hash=nan", "hash=-3", "hash=6.9", "embedding=2"])
def test_a_bound_that_cannot_be_is_refused(hashed: Path, tmp_path: Path, bound: str, capsys: Any) -> None:
    assert run(["select", str(hashed), str(tmp_path / "out"), "--near-duplicates", bound]) == 2
    assert "a bug" not in capsys.readouterr().err


def test_a_selection_keeps_hashes_and_embeddings_and_can_be_selected_from(hashed: Path, tmp_path: Path) -> None:
    mm.select(hashed, where="key <> 'p5'", seed=9).write(tmp_path / "one", samples_per_shard=3)
    mm.select(tmp_path / "one", near_duplicates="hash", by="length(caption)").write(tmp_path / "two")
    assert kept(tmp_path / "two") == {f"p{i}" for i in range(5)}
    by_key = members(tmp_path / "two")
    for (key,), value in zip(
        Rows([tmp_path / "two"]).query("SELECT key FROM samples ORDER BY tar_start").fetchall(),
        np.load(tmp_path / "two/00000_phash.npy"),
        strict=True,
    ):
        assert json.loads(by_key[key]["json"])["phash"] == f"{int(value):016x}"


def test_a_sample_without_a_picture_or_an_array_is_nobodys_duplicate(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (32, 32), "red").save(buffer, "PNG")
    given = Sample("with", Image(buffer.getvalue()), "x").with_array("image", np.ones(4, np.float16) / 2)
    without = [Sample(f"without{i}", Image(buffer.getvalue()), "x") for i in range(2)]
    run_of = write_run(tmp_path / "run", [*without, given])
    assert np.load(run_of / "00000_image.npy").tolist() == [[0] * 4, [0] * 4, [0.5] * 4]
    mm.select(run_of, near_duplicates="embedding").write(tmp_path / "out")
    assert kept(tmp_path / "out") == {"with", "without0", "without1"}
