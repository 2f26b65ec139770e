import itertools
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers as tf
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from mmsynth.errors import ModelError
from mmsynth.image import Image
from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage, run_stage
from mmsynth_captioners.vlm import VisionLanguageCaptioner
from tests.captioners.checkpoints import CHAT_MODELS, PLAIN_MODELS

TOKENS = 10
GREEDY = {"do_sample": False, "num_beams": 1, "max_new_tokens": TOKENS}
PROMPT = "what is this ?"


def captioner(folder, **parameters):
    """A captioner on the CPU in float32, ready to caption."""
    parameters = {"model": folder, "dtype": "float32", "max_new_tokens": TOKENS, **parameters}
    stage = VisionLanguageCaptioner(**parameters).bound("caption:vlm", run_seed=7)
    stage.check()
    stage.setup("cpu")
    return stage


def results_of(stage, samples):
    """One result for each sample, as the engine gets it."""
    return [result for (result,) in run_stage(stage, samples)]


def captions(stage, samples):
    return [result.caption for result in results_of(stage, samples)]


@cache
def loaded(folder):
    """Processor and model as anyone loads them."""
    model = tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return tf.AutoProcessor.from_pretrained(folder), model


def plain_chat_caption(folder, sample, prompt):
    """One caption as the model cards of chat models write it: no code of ours."""
    processor, model = loaded(folder)
    content = [{"type": "image", "image": sample.image.pixels()}, {"type": "text", "text": prompt}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    output = model.generate(**inputs, **GREEDY)
    return processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def plain_caption(folder, sample, prompt=None):
    """One caption as the model cards of plain captioners write it, with the prompt if the model gives it back."""
    processor, model = loaded(folder)
    text = {} if prompt is None else {"text": prompt}
    inputs = processor(images=sample.image.pixels(), **text, return_tensors="pt")
    inputs.pop("labels", None)
    output = model.generate(**inputs, **GREEDY)
    return processor.decode(output[0], skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", CHAT_MODELS)
def test_a_chat_models_caption_in_a_batch_of_16_sizes_is_the_one_of_plain_generate(name, checkpoint, pictures):
    written = captions(captioner(checkpoint(name), prompt=PROMPT), pictures)
    assert len(set(written)) > 10, "the checkpoint must tell pictures apart, or this test shows nothing"
    assert written[::3] == [plain_chat_caption(checkpoint(name), s, PROMPT) for s in pictures[::3]]


@pytest.mark.parametrize("name", ["blip", "git", "blip2"])
def test_a_plain_models_caption_in_a_batch_of_16_sizes_is_the_one_of_plain_generate(name, checkpoint, pictures):
    stage = captioner(checkpoint(name))
    results = results_of(stage, pictures)
    assert len({r.caption for r in results}) >= 8
    assert [r.caption for r in results[::3]] == [plain_caption(checkpoint(name), s) for s in pictures[::3]]
    assert "prompt" not in results[0].record["captions"][-1], "they get no prompt unless one is set"


def test_paligemma_gets_its_caption_prefix(checkpoint, pictures):
    results = results_of(captioner(checkpoint("paligemma")), pictures)
    assert results[0].record["captions"][-1]["prompt"] == "caption en"
    expected = [plain_caption(checkpoint("paligemma"), s, "<image>caption en") for s in pictures[::5]]
    assert [f"caption en {r.caption}" for r in results[::5]] == expected


def test_a_base_model_without_a_chat_template_continues_the_prompt_after_the_image(checkpoint, tmp_path, pictures):
    folder = Path(shutil.copytree(checkpoint("idefics3"), tmp_path / "base"))
    (folder / "chat_template.jinja").unlink()
    results = results_of(captioner(str(folder), prompt="a photo of"), pictures)
    assert len({r.caption for r in results}) > 10
    expected = [plain_caption(str(folder), s, "<image> a photo of") for s in pictures[::5]]
    assert [f"a photo of {r.caption}" for r in results[::5]] == expected


def test_blip_and_git_continue_a_prompt_without_repeating_it(checkpoint, pictures):
    prompt = "a photo of"
    for name in ("blip", "git"):
        written = captions(captioner(checkpoint(name), prompt=prompt), pictures)
        assert not any(text.startswith("a photo") for text in written)
        assert written != captions(captioner(checkpoint(name)), pictures), "the prompt must reach the model"
        if name == "blip":  # its plain call gives the prompt back in front
            assert f"{prompt} {written[0]}" == plain_caption(checkpoint(name), pictures[0], prompt)


def test_git_goes_on_from_the_prompt_and_not_from_its_end_token(checkpoint, pictures):
    folder = checkpoint("git")
    processor, model = loaded(folder)
    words = processor.tokenizer("a photo of", add_special_tokens=False).input_ids
    ids = torch.tensor([[processor.tokenizer.cls_token_id, *words]])  # as GIT's model card does it
    pixels = processor(images=pictures[0].image.pixels(), return_tensors="pt").pixel_values
    output = model.generate(pixel_values=pixels, input_ids=ids, **GREEDY)
    expected = processor.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    assert captions(captioner(folder, prompt="a photo of"), pictures[:1]) == [expected]


@pytest.mark.parametrize("name", [*CHAT_MODELS, *PLAIN_MODELS])
def test_nothing_after_the_stop_token_and_no_special_token_is_kept(name, checkpoint, pictures):
    results = results_of(captioner(checkpoint(name), max_new_tokens=16, prompt=PROMPT), pictures)
    written = [result.caption for result in results if isinstance(result, Sample)]
    assert len(written) > 8
    tokenizer = loaded(checkpoint(name))[0].tokenizer
    for text in written:
        assert not any(special in text for special in tokenizer.all_special_tokens)
        assert text == text.strip() != ""


def test_captions_that_end_early_are_trimmed_where_they_end(checkpoint, pictures):
    lengths = [len(text.split()) for text in captions(captioner(checkpoint("blip"), max_new_tokens=16), pictures)]
    assert min(lengths) < 12 <= max(lengths), "rows of one batch must end at different tokens for this to show"


def test_a_stop_token_that_is_an_ordinary_word_is_trimmed_too(checkpoint, tmp_path, pictures):
    folder = Path(shutil.copytree(checkpoint("llava"), tmp_path / "stops"))
    usual = captions(captioner(str(folder)), pictures)
    stop = usual[0].split()[3]
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["eos_token_id"] = [2, loaded(checkpoint("llava"))[0].tokenizer.convert_tokens_to_ids(stop)]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    expected = [" ".join(itertools.takewhile(lambda word: word != stop, text.split())) for text in usual]
    assert [getattr(result, "caption", "") for result in results_of(captioner(str(folder)), pictures)] == expected


@pytest.mark.parametrize("name", ["idefics3", "blip"])
def test_the_contract_of_stages(name, checkpoint, pictures):
    for temperature in (0, 1.0):
        parameters = {"model": checkpoint(name), "dtype": "float32", "max_new_tokens": 6}
        results = check_stage(VisionLanguageCaptioner(**parameters, temperature=temperature), pictures[:5])
        assert all(isinstance(result, Sample) for result in results)


@pytest.mark.parametrize("name", ["idefics3", "qwen2_vl", "git"])
def test_a_sampled_caption_depends_on_its_own_seed_and_not_on_its_batch(name, checkpoint, pictures):
    stage = captioner(checkpoint(name), temperature=1.5, top_p=0.95)
    together = captions(stage, pictures)
    assert [captions(stage, [s])[0] for s in pictures[:5]] == together[:5]
    assert captions(stage, pictures[8:2:-1]) == together[8:2:-1]
    copies = [Sample(f"copy-{i}", image=pictures[0].image) for i in range(4)]
    assert len(set(captions(stage, copies))) > 1, "the same picture under another key has another seed"
    torch.manual_seed(99)
    assert captions(stage, pictures[:2]) == together[:2], "the global generator plays no part"


def test_top_k_of_one_is_greedy_at_any_temperature(checkpoint, pictures):
    folder = checkpoint("llava")
    sampled = captioner(folder, temperature=5.0, top_k=1)
    assert captions(sampled, pictures) == captions(captioner(folder), pictures)


def test_a_caption_says_what_wrote_it(checkpoint, pictures):
    folder = checkpoint("idefics3")
    greedy, sampled = captioner(folder, prompt=PROMPT), captioner(folder, prompt=PROMPT, temperature=1)
    entry = results_of(greedy, pictures[:1])[0].record["captions"][-1]
    assert entry == {
        "text": entry["text"],
        "origin": "synthetic",
        "model": folder,
        "prompt": PROMPT,
        "stage": "caption:vlm",
        "truncated": True,
    }
    assert results_of(sampled, pictures[:1])[0].record["captions"][-1]["seed"] == sampled.seed_of(pictures[0])
    (info,) = greedy.models
    assert (info.id, info.dtype) == (folder, "float32")
    assert info.revision.startswith("files-")


def test_a_system_prompt_reaches_chat_models_and_is_refused_for_plain_ones(checkpoint, pictures):
    folder = checkpoint("qwen2_vl")
    system = "answer in one sentence"
    assert captions(captioner(folder, system=system), pictures) != captions(captioner(folder), pictures)
    with pytest.raises(ModelError, match="no chat template"):
        captioner(checkpoint("blip"), system=system)


def test_models_run_in_the_dtype_they_are_asked_for(checkpoint, pictures):
    stage = captioner(checkpoint("qwen2_vl"), dtype="bfloat16")
    assert {weight.dtype for weight in stage.chat_model.model.parameters()} == {torch.bfloat16}
    assert all(captions(stage, pictures[:3]))
    assert stage.models[0].dtype == "bfloat16"


def test_a_sample_without_an_image_fails_by_itself(checkpoint, pictures):
    stage = captioner(checkpoint("blip"))
    odd = [Sample("blank"), pictures[0], Sample("broken", image=Image(b"not an image"))]
    blank, whole, broken = results_of(stage, odd)
    assert (blank.reason, broken.reason) == ("no_image", "image_unreadable")
    assert whole.caption == captions(stage, pictures[:1])[0]


def test_an_empty_caption_drops_the_sample(checkpoint, tmp_path, pictures):
    folder = Path(shutil.copytree(checkpoint("blip"), tmp_path / "silent"))
    weights = tf.AutoModelForImageTextToText.from_pretrained(folder)
    weights.text_decoder.cls.predictions.decoder.bias.data[2] = 1e4  # the stop token wins at once
    weights.text_decoder.cls.predictions.bias.data[2] = 1e4
    weights.save_pretrained(folder)
    results = results_of(captioner(str(folder)), pictures[:3])
    assert all(isinstance(result, Dropped) and result.reason == "empty_caption" for result in results)
    assert [result.sample.key for result in results] == [sample.key for sample in pictures[:3]]


def test_a_model_that_cannot_be_had_is_one_clear_error_before_any_work(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="neither a local folder nor a hub id"):
        VisionLanguageCaptioner(model="no-such-model").check()
    with pytest.raises(ModelError, match=r"'nobody/no-such-model' could not be found or downloaded") as caught:
        VisionLanguageCaptioner(model="nobody/no-such-model").check()
    assert "\n" not in str(caught.value)


def test_folders_that_hold_no_usable_model_are_refused_before_any_work(checkpoint, tmp_path):
    def check(folder):
        with pytest.raises(ModelError) as caught:
            VisionLanguageCaptioner(model=str(folder)).check()
        return str(caught.value)

    assert "no config.json" in check(tmp_path)
    folder = Path(shutil.copytree(checkpoint("blip"), tmp_path / "pickled"))
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no safetensors weights" in check(folder)
    text_only = Path(shutil.copytree(checkpoint("blip"), tmp_path / "text"))
    (text_only / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "'bert', which is neither an image-text-to-text model" in check(text_only)
    (text_only / "config.json").write_text(json.dumps({"model_type": "new", "auto_map": {"AutoConfig": "x.Y"}}))
    assert "trust_remote_code" in check(text_only)


@pytest.mark.parametrize("name", ["blip", "llava"])
def test_weights_that_are_missing_are_not_drawn_at_random(name, checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint(name), tmp_path / name))
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(key for key in weights if "norm" in key.lower() and key.endswith("weight")))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    stage = VisionLanguageCaptioner(model=str(folder), dtype="float32")
    stage.check()
    with pytest.raises(ModelError, match="1 weights are missing in its files"):
        stage.setup("cpu")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "run git lfs pull"), (None, "fetch it")],
)
def test_weights_that_are_not_whole_are_found_before_any_work(content, message, checkpoint, tmp_path):
    folder = Path(shutil.copytree(checkpoint("blip"), tmp_path / "blip"))
    weights = folder / "model.safetensors"
    weights.write_bytes(content or weights.read_bytes()[:-8])
    with pytest.raises(ModelError, match=message):
        VisionLanguageCaptioner(model=str(folder)).check()


def test_sampling_parameters_without_a_temperature_are_refused():
    with pytest.raises(ValidationError, match="top_p and top_k need a temperature above 0"):
        VisionLanguageCaptioner(model="nano", top_p=0.9, top_k=5)
    with pytest.raises(ValidationError):
        VisionLanguageCaptioner(model="nano", temperature=-1)
