"""Other people's readers read what we write: webdataset, datasets, and open_clip_train's own command line."""

import io
import json
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

import mmsynth as mm


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 captioned scenes in four shards."""
    folder = tmp_path_factory.mktemp("shards") / "out"
    mm.scenes(48, seed=5).render("scenes").caption("facts").write(folder, samples_per_shard=12)
    return folder


def test_webdataset_reads_the_shards(shards: Path) -> None:
    import webdataset

    dataset = webdataset.WebDataset(str(shards / "{00000..00003}.tar"), shardshuffle=False).decode("pil")
    samples = list(dataset)
    assert [sample["__key__"] for sample in samples] == [f"{i:09d}" for i in range(48)]
    for sample in samples:
        assert isinstance(sample["jpg"], PIL.Image.Image)
        assert sample["json"]["captions"][-1]["text"] == sample["txt"]
        assert sample["json"]["qa"]


def test_datasets_reads_the_shards(shards: Path, tmp_path: Path) -> None:
    import datasets

    files = sorted(str(path) for path in shards.glob("*.tar"))
    dataset = datasets.load_dataset("webdataset", data_files={"train": files}, split="train", cache_dir=str(tmp_path))
    assert len(dataset) == 48
    first = dataset[0]
    assert first["jpg"].size == (64, 64)
    assert first["json"]["facts"]["background"]
    assert first["txt"]


def test_the_parquet_files_are_read_by_pandas_with_a_row_for_each_sample(shards: Path) -> None:
    import pandas as pd

    frame = pd.concat(pd.read_parquet(path) for path in sorted(shards.glob("*.parquet")))
    assert len(frame) == 48
    assert (frame["status"] == "success").all()
    assert (frame["width"] == 64).all()


def test_open_clip_train_trains_on_the_shards_from_its_own_command_line(shards: Path, tmp_path: Path) -> None:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 64, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-scenes.json").write_text(json.dumps(config))
    code = f"import open_clip; open_clip.add_model_config({str(tmp_path)!r}); from open_clip_train.main import main; import sys; main(sys.argv[1:])"
    arguments = [
        "--train-data",
        str(shards / "{00000..00003}.tar"),
        "--dataset-type",
        "webdataset",
        "--model",
        "tiny-scenes",
    ]
    arguments += ["--batch-size", "8", "--epochs", "1", "--workers", "1", "--precision", "fp32", "--device", "cpu"]
    arguments += ["--logs", str(tmp_path / "logs"), "--name", "run", "--log-every-n-steps", "1", "--warmup", "1"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    log = (tmp_path / "logs" / "run" / "out.log").read_text()
    assert log.count("Train Epoch: 0") >= 5, "six steps of eight from sizes.json's 48"
    assert "/48 (" in log


def test_the_index_is_webdatasets(shards: Path) -> None:
    index = json.loads((shards / "index.json").read_text())
    assert index["__kind__"] == "wids-shard-index-v1"
    assert sum(shard["nsamples"] for shard in index["shardlist"]) == 48


def test_members_of_one_key_stand_together_and_pictures_decode(shards: Path) -> None:
    import tarfile

    seen: list[str] = []
    with tarfile.open(shards / "00000.tar") as tar:
        for member in tar:
            key = member.name.partition(".")[0]
            if not seen or seen[-1] != key:
                seen.append(key)
            if member.name.endswith(".jpg"):
                file = tar.extractfile(member)
                assert file is not None
                PIL.Image.open(io.BytesIO(file.read())).load()
    assert len(seen) == len(set(seen)) == 12
