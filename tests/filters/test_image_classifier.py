"""ImageClassifier gives a classifier's own probabilities, and a linear head's own scores over CLIP embeddings.

The classifiers are a ViT with random weights: its labels are names that hub models have.
"""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.errors import ModelError, SampleError
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.image_classifier import ImageClassifier
from tests.filters.photographs import photograph
from tests.models.classifiers import LABELS, save_vit

NAMES = ["astronaut", "coffee", "chelsea", "china", "flower"]


@pytest.fixture(scope="module", params=["single_label_classification", "multi_label_classification"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vit(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As LAION's aesthetic predictor is: one row, and a bias."""
    import torch
    from safetensors.torch import save_file

    file = tmp_path_factory.mktemp("head") / "aesthetic.safetensors"
    weight = torch.randn(1, 24, generator=torch.Generator().manual_seed(1)) * 3
    save_file({"weight": weight, "bias": torch.tensor([5.0])}, file)
    return file


@pytest.fixture(scope="module")
def batch() -> list[Sample]:
    return [photograph(name, (60, 40)) for name in NAMES]


def ready(**parameters: Any) -> ImageClassifier:
    stage = ImageClassifier(dtype="float32", **parameters)
    stage.check()
    stage.setup("cpu")
    return stage


def scores(result: Result) -> dict[str, float]:
    assert isinstance(result, Sample)
    return dict(result.record["scores"])


def test_scores_are_the_models_own_probabilities(classifier: Path, batch: list[Sample]) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    stage = ready(model=str(classifier), labels=["nsfw", "Has Watermark"])
    assert stage.score_names() == ("image_nsfw", "image_has_watermark")
    model = AutoModelForImageClassification.from_pretrained(classifier, dtype=torch.float32).eval()
    processor = AutoImageProcessor.from_pretrained(classifier)
    seen = set()
    for sample, result in zip(batch, stage.process(batch), strict=True):
        assert sample.image is not None
        with torch.no_grad():
            logits = model(**processor(images=sample.image.pixels(), return_tensors="pt")).logits[0]
        multi = model.config.problem_type.startswith("multi")
        expected = (logits.sigmoid() if multi else logits.softmax(-1))[1:].tolist()
        assert list(scores(result).values()) == pytest.approx(expected, abs=1e-5)
        seen.add(round(expected[0], 3))
    assert len(seen) >= 4, "the classifier must tell these pictures apart"


def test_bounds_judge_one_label_and_keep_all_scores(classifier: Path, batch: list[Sample]) -> None:
    found = [scores(r)["image_nsfw"] for r in ready(model=str(classifier), labels=["nsfw"]).process(batch)]
    low, high = sorted(found)[1] - 1e-5, sorted(found)[3] + 1e-5
    two = ready(model=str(classifier), labels=LABELS[:2], bound_label="nsfw", min=low, max=high, name="unsafe")
    for value, result in zip(found, two.process(batch), strict=True):
        expected = "unsafe_nsfw_below_min" if value < low else "unsafe_nsfw_above_max" if value > high else None
        assert getattr(result, "reason", None) == expected
        kept = result.sample if isinstance(result, Dropped) else result
        assert kept is not None
        assert set(kept.record["scores"]) == {"unsafe_normal", "unsafe_nsfw"}


def test_a_head_scores_the_embedding_of_a_clip_model(clip_folder: Path, head: Path, batch: list[Sample]) -> None:
    import open_clip
    import torch
    from safetensors.torch import load_file

    stage = ready(model=str(clip_folder), head=str(head), name="aesthetic")
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{clip_folder}")
    weights = load_file(head)
    for sample, result in zip(batch, stage.process(batch), strict=True):
        assert sample.image is not None
        with torch.no_grad():
            embedding = model.eval().encode_image(preprocess(sample.image.pixels())[None], normalize=True)
        expected = float((embedding @ weights["weight"].T + weights["bias"]).item())
        assert scores(result) == {"aesthetic": pytest.approx(expected, abs=1e-4)}
    bounded = ready(model=str(clip_folder), head=str(head), name="aesthetic", min=100)
    assert {getattr(r, "reason", None) for r in bounded.process(batch)} == {"aesthetic_below_min"}


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_a_head_of_several_layers_scores_as_torchs_sequential_does(
    clip_folder: Path, batch: list[Sample], tmp_path: Path, activation: str
) -> None:
    import torch
    from safetensors.torch import save_file
    from torch import nn

    torch.manual_seed(2)
    between = nn.ReLU() if activation == "relu" else nn.Dropout(0.2)  # as LAION's improved predictor has it
    head = nn.Sequential(nn.Linear(24, 12), between, nn.Linear(12, 2)).eval()
    save_file({f"layers.{name}": value for name, value in head.state_dict().items()}, tmp_path / "head.safetensors")
    plain = tmp_path / "identity.safetensors"
    save_file({"weight": torch.eye(24)}, plain)
    names = [f"e{i}" for i in range(24)]
    embeddings = ready(model=str(clip_folder), head=str(plain), labels=names, name="e").process(batch)
    parameters = {"head": str(tmp_path / "head.safetensors"), "labels": ["nice", "marked"], "name": "looks"}
    found = ready(model=str(clip_folder), head_activation=activation, **parameters).process(batch)
    for embedding, result in zip(embeddings, found, strict=True):
        expected = head(torch.tensor(list(scores(embedding).values()))).tolist()
        assert list(scores(result).values()) == pytest.approx(expected, abs=1e-4)


def test_both_kinds_keep_the_stage_contract(
    classifier: Path, clip_folder: Path, head: Path, batch: list[Sample]
) -> None:
    check_stage(ImageClassifier(model=str(classifier), labels=["nsfw"], dtype="float32"), batch)
    check_stage(ImageClassifier(model=str(clip_folder), head=str(head), dtype="float32"), batch)


def test_a_score_that_is_no_number_is_no_score(tmp_path: Path, clip_folder: Path, batch: list[Sample]) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.full((1, 24), math.nan)}, tmp_path / "broken.safetensors")
    results = ready(model=str(clip_folder), head=str(tmp_path / "broken.safetensors")).process(batch)
    assert {getattr(result, "reason", None) for result in results} == {"image_not_finite"}


def test_a_sample_without_an_image_fails(classifier: Path) -> None:
    with pytest.raises(SampleError, match="no_image"):
        ready(model=str(classifier), labels=["nsfw"]).prepare(Sample("k", caption="a dog"))


def test_what_is_no_classifier_or_no_head_is_refused(
    classifier: Path, clip_folder: Path, head: Path, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(ModelError, match="no label 'gore'; its labels: normal, nsfw, Has Watermark"):
        ImageClassifier(model=str(classifier), labels=["gore"]).check()
    with pytest.raises(ModelError, match="is not a file"):
        ImageClassifier(model=str(clip_folder), head="nowhere.safetensors").check()
    with pytest.raises(ModelError, match="gives 1 scores, and labels names 2"):
        ImageClassifier(model=str(clip_folder), head=str(head), labels=["a", "b"]).check()
    save_file({"weight": torch.zeros(1, 7)}, tmp_path / "narrow.safetensors")
    with pytest.raises(ModelError, match="for embeddings of 7 numbers"):
        ready(model=str(clip_folder), head=str(tmp_path / "narrow.safetensors"))
    for other in (
        {"kernel": torch.zeros(1, 24)},
        {"0.weight": torch.zeros(5, 24), "2.weight": torch.zeros(1, 6)},
        {"0.weight": torch.zeros(1, 24), "0.bias": torch.zeros(2)},
        {"0.weight": torch.zeros(1, 24), "1.running_mean": torch.zeros(1)},
    ):
        save_file(other, tmp_path / "other.safetensors")
        with pytest.raises(ModelError, match="must hold weight"):
            ImageClassifier(model=str(clip_folder), head=str(tmp_path / "other.safetensors")).check()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "labels must name at least one"),
        ({"labels": ["a b", "a_b"]}, "must differ"),
        ({"labels": ["a", "b"], "max": 0.5}, "bound_label must say which of a, b"),
        ({"labels": ["a"], "bound_label": "c"}, "'c' is not among labels"),
        ({"labels": ["a"], "min": 0.5, "max": 0.1}, "max must be at least min"),
        ({"labels": ["a"], "max": math.nan}, "finite"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageClassifier(model="owner/name", **parameters)
