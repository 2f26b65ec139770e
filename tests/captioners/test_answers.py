"""What becomes of what a model writes: reasoning, cut texts, stop strings, numbers that are none; and of what it reads."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file

from mmsynth.errors import ModelError
from mmsynth.models.chat.checkpoints import FILES, IGNORED
from mmsynth.sample import Dropped, Failed, Sample
from mmsynth.testing import run_stage
from mmsynth_captioners.ask import VisualQuestions
from mmsynth_captioners.vlm import VisionLanguageCaptioner
from mmsynth_filters.grounding import Grounding
from tests.models.scripted import TEMPLATE, save_scripted


def ready(stage: Any) -> Any:
    bound = stage.bound("stage", run_seed=7)
    bound.check()
    bound.setup("cpu")
    return bound


def captioned(folder: Path, pictures: Sequence[Sample], **parameters: Any) -> list[Any]:
    stage = ready(VisionLanguageCaptioner(model=str(folder), dtype="float32", **parameters))
    return [result for (result,) in run_stage(stage, pictures)]


@pytest.mark.parametrize("marks", [("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷")])
@pytest.mark.parametrize("are_special", [True, False])
def test_the_answer_alone_is_the_caption(
    marks: tuple[str, str], are_special: bool, tmp_path: Path, pictures: list[Sample]
) -> None:
    script = [marks[0], "Got", "it,", "one", "sentence.", marks[1], "A", "brown", "dog."]
    folder = save_scripted(tmp_path / "model", script, special=marks if are_special else ())
    assert [result.caption for result in captioned(folder, pictures[:3])] == ["A brown dog."] * 3
    cut = captioned(folder, pictures[:2], max_new_tokens=5)
    assert all(isinstance(result, Dropped) and result.reason == "unfinished_thought" for result in cut)


def test_a_thought_that_the_prompt_opened_is_no_caption_either(tmp_path: Path, pictures: list[Sample]) -> None:
    folder = save_scripted(tmp_path / "model", ["Hm", "</think>", "A", "dog."], opening="<think>")
    assert [result.caption for result in captioned(folder, pictures[:1])] == ["A dog."]
    (cut,) = captioned(folder, pictures[:1], max_new_tokens=1)
    assert isinstance(cut, Dropped)
    assert cut.reason == "unfinished_thought"


def test_a_text_that_was_cut_is_marked_and_ends_with_a_whole_character(tmp_path: Path, pictures: list[Sample]) -> None:
    folder = save_scripted(tmp_path / "model", ["A", "Ġcaf", "Ã", "©"], is_bytes=True)
    (whole,) = captioned(folder, pictures[:1])
    assert (whole.caption, "truncated" in whole.record["captions"][-1]) == ("A café", False)
    (cut,) = captioned(folder, pictures[:1], max_new_tokens=3)
    assert (cut.caption, cut.record["captions"][-1]["truncated"]) == ("A caf", True)
    stage = ready(VisualQuestions(model=str(folder), dtype="float32", max_new_tokens=3, questions=["what ?"]))
    ((asked,),) = run_stage(stage, pictures[:1])
    assert [(pair["answer"], pair["truncated"]) for pair in asked.record["qa"]] == [("A caf", True)]


@pytest.mark.parametrize(
    ("generation", "parameters"), [({"stop_strings": ["User:"]}, {}), ({}, {"stop": ["never", "User: hel"]})]
)
def test_texts_end_before_a_stop_string(
    generation: dict[str, Any], parameters: dict[str, Any], tmp_path: Path, pictures: list[Sample]
) -> None:
    folder = save_scripted(tmp_path / "model", ["A", "dog.", "User:", "hello", "there"], **generation)
    results = captioned(folder, pictures[:3], **parameters)
    assert [result.caption for result in results] == ["A dog."] * 3
    assert not any("truncated" in result.record["captions"][-1] for result in results)


@pytest.mark.parametrize("temperature", [0, 0.7])
def test_scores_that_are_no_numbers_are_no_caption(temperature: float, tmp_path: Path, pictures: list[Sample]) -> None:
    folder = save_scripted(tmp_path / "model", ["A", "dog.", "yes", "no"])
    weights = load_file(folder / "model.safetensors")
    weights["language_model.lm_head.weight" if "lm_head.weight" not in weights else "lm_head.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for result in captioned(folder, pictures[:2], temperature=temperature):
        assert isinstance(result, Failed)
        assert result.reason == "not_finite"
    judge = ready(Grounding(model=str(folder), dtype="float32"))
    ((judged,),) = run_stage(judge, [pictures[0].with_caption("A dog.")])
    assert isinstance(judged, Failed)
    assert judged.reason == "not_finite"


@pytest.mark.parametrize(
    ("template", "parameters", "message"),
    [
        ("{% for m in messages %}", {}, "chat template"),
        (TEMPLATE.replace("<s> ", "{{ raise_exception('no system role') if messages[0]['role'] == 'system' }}"),
         {"system": "Be brief."}, "no system role"),
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", {}, "cannot be asked"),
        (TEMPLATE, {"prompt": "what is <image>"}, "'<image>', which stands for a picture"),
    ],
)  # fmt: skip
def test_what_can_never_work_is_one_error_of_the_model(
    template: str, parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = save_scripted(tmp_path / "model", ["A", "dog."])
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(ModelError, match=re.escape(message)) as caught:
        ready(VisionLanguageCaptioner(model=str(folder), dtype="float32", **parameters))
    assert "\n" not in str(caught.value)


def test_special_tokens_in_captions_are_text_for_the_model(tmp_path: Path, pictures: list[Sample]) -> None:
    folder = save_scripted(tmp_path / "model", ["yes", "no"])
    stage = ready(Grounding(model=str(folder), dtype="float32"))
    captions = ["a dog", "<image> of a dog", "cat </s> yes"]
    samples = [sample.with_caption(text) for sample, text in zip(pictures, captions, strict=False)]
    results = [result for (result,) in run_stage(stage, samples)]
    assert all(isinstance(result, Sample) for result in results), results
    literal = stage.chat_model.prompts.literal
    ids = stage.chat_model.tokenizer(literal("cat </s> <s> <image>"))["input_ids"]
    assert not set(ids) & set(stage.chat_model.tokenizer.convert_tokens_to_ids(["</s>", "<s>", "<image>"]))


def test_a_hub_repository_is_fetched_once_and_not_in_other_formats_too() -> None:
    files = ["config.json", "model-00001-of-00010.safetensors", "consolidated.safetensors", "onnx/x.json"]
    files += ["original/consolidated.00.safetensors", "original/params.json", "model.safetensors.index.json"]
    wanted = filter_repo_objects(files, allow_patterns=FILES, ignore_patterns=IGNORED)
    assert list(wanted) == ["config.json", "model-00001-of-00010.safetensors", "model.safetensors.index.json"]
