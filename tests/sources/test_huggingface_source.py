"""The huggingface source: local datasets of any make, with image bytes as they came."""

import json
from pathlib import Path

import datasets
import pytest

from mmsynth.errors import SourceError
from mmsynth.sources.huggingface import HuggingFace
from tests.sources.source_files import PHOTOGRAPHS, everything, picture, reasons, samples, source_of


def photographs() -> datasets.Dataset:
    rows = {
        "image": [{"bytes": data, "path": name} for name, data in PHOTOGRAPHS.items()],
        "caption": [f"this is {name}" for name in PHOTOGRAPHS],
        "label": list(range(len(PHOTOGRAPHS))),
        "id": ["x", "y", "x", "z", "../w", "v"],
    }
    return datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())


def test_a_saved_dataset_gives_bytes_as_they_came(tmp_path: Path) -> None:
    photographs().save_to_disk(tmp_path / "saved")
    source = HuggingFace(path=str(tmp_path / "saved"))
    source.check()
    assert source.count() == 6
    found = samples(everything(source, 4))
    assert [s.image.data for s in found if s.image] == list(PHOTOGRAPHS.values())
    assert [s.caption for s in found] == [f"this is {name}" for name in PHOTOGRAPHS]
    assert source_of(found[1]) == {
        "kind": "huggingface", "path": "saved", "index": 1, "image": "chelsea.png", "row": {"label": 1, "id": "y"},
    }  # fmt: skip
    assert reasons(found) == {}


def test_splits_and_key_columns_are_chosen(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": photographs(), "test": photographs().select([0])}).save_to_disk(tmp_path / "saved")
    assert HuggingFace(path=str(tmp_path / "saved"), split="test").count() == 1
    found = samples(everything(HuggingFace(path=str(tmp_path / "saved"), key="id"), 2))
    assert [source_of(s).get("original_key") for s in found] == [None, None, "x", None, "../w", None]
    with pytest.raises(SourceError, match=r"no split 'dev' in .*Splits: train, test"):
        HuggingFace(path=str(tmp_path / "saved"), split="dev").check()


def test_a_folder_of_images_with_metadata_is_read_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = []
    for name, data in PHOTOGRAPHS.items():
        (folder / name).write_bytes(data)
        lines.append(json.dumps({"file_name": name, "caption": f"this is {name}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    source = HuggingFace(path=str(folder))
    source.check()
    found = samples(everything(source))
    assert {s.image.data for s in found if s.image} == set(PHOTOGRAPHS.values())
    for sample in found:
        assert sample.caption == f"this is {source_of(sample)['image']}"
        assert str(tmp_path) not in json.dumps(sample.record)


def test_a_bad_image_in_a_dataset_is_a_row(tmp_path: Path) -> None:
    cells = [{"bytes": picture(), "path": None}, {"bytes": b"", "path": None}, {"bytes": b"junk", "path": None}, None]
    rows = {"image": cells, "caption": ["a", "b", "c", "d"]}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    found = everything(HuggingFace(path=str(tmp_path / "saved")))
    assert list(reasons(found).values()) == ["image_empty", "image_unreadable", "image_missing"]


def test_what_cannot_be_had_is_one_clear_error(tmp_path: Path) -> None:
    photographs().save_to_disk(tmp_path / "saved")
    (tmp_path / "empty").mkdir()
    for path, message in {
        str(tmp_path / "gone"): "no such folder",
        str(tmp_path / "empty"): "cannot be loaded",
    }.items():
        with pytest.raises(SourceError, match=message) as caught:
            HuggingFace(path=path).check()
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match=r"no column 'img' in .*Did you mean 'image'"):
        HuggingFace(path=str(tmp_path / "saved"), image="img").check()


def test_a_hub_name_that_cannot_be_had_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="could not be found or downloaded") as caught:
        HuggingFace(path="nobody/has-this-dataset").check()
    assert "\n" not in str(caught.value)


def test_a_sequence_of_images_and_further_columns(tmp_path: Path) -> None:
    rows = {
        "image": [[{"bytes": picture(i + j), "path": None} for j in range(i + 1)] for i in range(3)],
        "before": [{"bytes": picture(20 + i), "path": None} for i in range(3)],
        "caption": ["a", "b", "c"],
    }
    features = datasets.Features(
        {
            "image": datasets.Sequence(datasets.Image()),
            "before": datasets.Image(),
            "caption": datasets.Value("string"),
        }
    )
    datasets.Dataset.from_dict(rows, features).save_to_disk(tmp_path / "saved")
    source = HuggingFace(path=str(tmp_path / "saved"), images=["before"])
    source.check()
    found = samples(everything(source, 2))
    assert [s.image.data for s in found if s.image] == [picture(0), picture(1), picture(2)]
    assert [{name: image.data for name, image in s.images.items()} for s in found] == [
        {"before": picture(20)},
        {"before": picture(21), "image1": picture(2)},
        {"before": picture(22), "image1": picture(3), "image2": picture(4)},
    ]
