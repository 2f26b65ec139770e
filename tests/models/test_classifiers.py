"""Classifiers are found by their labels before anything is loaded, and read as much of a text as they can."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mmsynth.errors import ModelError
from mmsynth.models.classifiers import ImageClassifier, TextClassifier, find_classifier
from tests.filters.photographs import photograph
from tests.models.classifiers import LABELS, save_bert, save_vit


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


def test_an_image_classifier_gives_the_labels_asked_for_in_their_order(vit: Path) -> None:
    import torch

    pictures = [photograph(name, (60, 40)).required_image().pixels() for name in ("coffee", "china")]
    found = find_classifier("image", str(vit), None, LABELS)
    every = ImageClassifier(found, LABELS, "cpu", torch.float32)
    assert (every.info.id, every.info.dtype) == (str(vit), "float32")
    rows = every.scores([every.pixels_for(picture) for picture in pictures])
    assert [sum(row) for row in rows] == pytest.approx([1, 1], abs=1e-5)
    two = ImageClassifier(found, [LABELS[2], LABELS[0]], "cpu", torch.float32)
    swapped = two.scores([two.pixels_for(picture) for picture in pictures])
    assert swapped == [pytest.approx([row[2], row[0]]) for row in rows]


def test_a_text_classifier_says_what_it_did_not_read(bert: Path) -> None:
    import torch

    found = find_classifier("text", str(bert), None, ["toxic", "insult"])
    model = TextClassifier(found, ["toxic", "insult"], "cpu", torch.float32)
    short, long, cut = model.scores(["a dog", "dog " * 40, "dog " * 14])
    assert [one.truncated for one in (short, long, cut)] == [False, True, False]
    assert long.scores == pytest.approx(cut.scores, abs=1e-6), "what fits is read"
    assert len(short.scores) == 2
    assert model.scores([]) == []


def test_what_is_no_such_classifier_is_refused_before_it_is_loaded(vit: Path, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no label 'gore'; its labels: normal, nsfw, Has Watermark"):
        find_classifier("image", str(vit), None, ["gore"])
    with pytest.raises(ModelError, match="is a 'vit', which has no text classifier"):
        find_classifier("text", str(vit), None, [])
    with pytest.raises(ModelError, match="is a 'bert', which has no image classifier"):
        find_classifier("image", str(bert), None, [])
    with pytest.raises(ModelError, match="no readable configuration"):
        find_classifier("image", str(tmp_path), None, [])
    (tmp_path / "config.json").write_text(json.dumps(json.loads((vit / "config.json").read_text())))
    with pytest.raises(ModelError, match="no safetensors weights"):
        find_classifier("image", str(tmp_path), None, [])


def test_broken_weights_are_a_model_error(vit: Path, tmp_path: Path) -> None:
    for file in vit.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="could not be loaded"):
        find_classifier("image", str(tmp_path), None, LABELS)


@pytest.mark.parametrize("lacking", ["classifier.weight", "vit.layers.1.layernorm_before.weight"])
def test_weights_that_are_missing_are_not_drawn_at_random(vit: Path, tmp_path: Path, lacking: str) -> None:
    import torch

    shutil.copytree(vit, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    name = next(name for name in weights if name.split(".")[-2:] == lacking.split(".")[-2:])
    save_file({key: value for key, value in weights.items() if key != name}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="1 weights are missing in its files"):
        ImageClassifier(find_classifier("image", str(tmp_path), None, LABELS), LABELS, "cpu", torch.float32)
