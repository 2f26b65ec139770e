"""ClipScore gives open_clip's own cosines, for every caption, in any batch, for any text tower."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import mmsynth as mm
from mmsynth.errors import ImageError, SampleError
from mmsynth.image import Image
from mmsynth.models.clip.find import find_clip
from mmsynth.models.clip.model import ClipModel
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.testing import check_stage, photo_samples
from mmsynth_filters.clip import ClipScore
from tests.models.clip_folders import save_full_size

KINDS = ["clip", "eos", "siglip", "class_token", "transformers"]
LONG = "A dog on the red gradient. The dog with a blue dog, and the red dog of the blue. " * 3


def scorer(folder: Path, **parameters: Any) -> ClipScore:
    stage = ClipScore(**{"model": str(folder), "dtype": "float32", "exact": True} | parameters)
    stage.check()
    stage.setup("cpu")
    return stage


def samples(n: int = 6) -> list[Sample]:
    """Images of several sizes, and captions of several lengths."""
    sizes = [(48, 48), (64, 30), (25, 70), (32, 32)]
    made = []
    for i, sample in enumerate(photo_samples(n)):
        assert sample.image is not None
        resized = sample.image.pixels().resize(sizes[i % 4])
        caption = " ".join(["a red dog", "on the", "blue gradient", "and a dog"][: i % 4 + 1] * (i // 4 + 1))
        made.append(Sample(sample.key, Image.from_pixels(resized).encoded("png")).with_caption(caption))
    return made


@cache
def open_clips_own(folder: Path) -> tuple[Any, Any, Any]:
    import open_clip

    name = f"local-dir:{folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


def cosine(folder: Path, sample: Sample, text: str) -> float:
    """open_clip's own, one pair at a time, at the full context."""
    import torch

    model, preprocess, tokenizer = open_clips_own(folder)
    assert sample.image is not None
    with torch.no_grad():
        image = model.encode_image(preprocess(sample.image.pixels())[None], normalize=True)
        return float((image @ model.encode_text(tokenizer([text]), normalize=True).T).item())


def score(result: Result, name: str = "clip") -> float:
    assert isinstance(result, Sample), result
    return float(result.record["scores"][name])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_open_clips_own(clip_folders: dict[str, Path], kind: str) -> None:
    batch = samples()
    results = scorer(clip_folders[kind]).process(batch)
    expected = [cosine(clip_folders[kind], sample, sample.caption or "") for sample in batch]
    assert [score(result) for result in results] == pytest.approx(expected, abs=1e-5)
    assert len({round(value, 4) for value in expected}) == len(batch), "the models must tell these pairs apart"


@pytest.mark.parametrize("kind", KINDS)
def test_keeps_the_stage_contract(clip_folders: dict[str, Path], kind: str) -> None:
    check_stage(ClipScore(model=str(clip_folders[kind]), dtype="float32"), samples())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_batch_size_changes_nothing(clip_folders: dict[str, Path], kind: str, batch_size: int) -> None:
    batch = [samples(5)[i % 5].with_caption(LONG[: 9 * i + 5]) for i in range(10)]
    expected = [score(result) for result in scorer(clip_folders[kind]).process(batch)]
    stage = scorer(clip_folders[kind], batch_size=batch_size)
    parts = [stage.process(batch[i : i + batch_size]) for i in range(0, 10, batch_size)]
    assert [score(result) for part in parts for result in part] == pytest.approx(expected, abs=2e-6)


def test_every_caption_of_the_record_is_scored(clip_folder: Path) -> None:
    sample = samples(1)[0].with_caption("a dog", model="captioner").with_caption("the blue dog").with_scores(old=1.0)
    sample = sample.with_record(captions=[*sample.record["captions"], {"text": ""}, "not an entry"])
    result = scorer(clip_folder).process([sample])[0]
    assert isinstance(result, Sample)
    *entries, empty, odd = result.record["captions"]
    expected = [cosine(clip_folder, sample, entry["text"]) for entry in entries]
    assert [entry["scores"]["clip"] for entry in entries] == pytest.approx(expected, abs=1e-5)
    assert (empty, odd) == ({"text": ""}, "not an entry")
    assert entries[1]["model"] == "captioner"
    assert result.record["scores"] == {"old": 1.0, "clip": entries[-1]["scores"]["clip"]}
    assert "scores" not in sample.record["captions"][0], "the input is not changed"


def test_a_caption_without_an_entry_is_scored_too(clip_folder: Path) -> None:
    image = samples(1)[0].image
    bare, unlisted = Sample("bare", image, "a dog"), Sample("unlisted", image, "a dog").with_record(captions=[])
    results = scorer(clip_folder).process([bare, unlisted])
    assert [score(result) for result in results] == pytest.approx([cosine(clip_folder, bare, "a dog")] * 2, abs=1e-5)


def test_the_score_has_the_name_it_is_given(clip_folder: Path) -> None:
    stage = scorer(clip_folder, name="clip_small")
    result = stage.process(samples(1))[0]
    assert stage.score_names() == ("clip_small",)
    assert isinstance(result, Sample)
    assert result.record["scores"].keys() == {"clip_small"} == result.record["captions"][0]["scores"].keys()


def test_bounds_drop_and_keep_the_scores(clip_folder: Path) -> None:
    batch = samples()
    scores = [score(result) for result in scorer(clip_folder).process(batch)]
    low, high = sorted(scores)[1], sorted(scores)[-2]
    results = scorer(clip_folder, min=low, max=high).process(batch)
    for value, result in zip(scores, results, strict=True):
        expected = "clip_below_min" if value < low else "clip_above_max" if value > high else None
        assert getattr(result, "reason", None) == expected
        kept = result.sample if isinstance(result, Dropped) else result
        assert kept is not None
        assert score(kept) == pytest.approx(value, abs=2e-6)
    assert sum(isinstance(result, Dropped) for result in results) == 2


@pytest.mark.parametrize("kind", ["clip", "eos", "siglip"])
def test_long_captions_are_scored_in_pieces(clip_folders: dict[str, Path], kind: str) -> None:
    import torch

    stage = scorer(clip_folders[kind])
    sample = samples(1)[0].with_caption(LONG)
    reader = ClipModel(find_clip(str(clip_folders[kind])), "cpu", torch.float32).reader()
    pieces = reader.read(LONG).pieces
    texts = [piece.text for piece in pieces]
    assert "".join(texts).split() == LONG.replace(". ", ".").split() or " ".join(texts).split() == LONG.split()
    assert all(len(piece.tokens) <= 24 for piece in pieces)
    assert all(text.endswith((".", ",")) for text in texts), f"cut inside a sentence: {texts}"
    result = stage.process([sample])[0]
    weights = [piece.weight for piece in pieces]
    cosines = [cosine(clip_folders[kind], sample, text) for text in texts]
    mean = sum(c * w for c, w in zip(cosines, weights, strict=True)) / sum(weights)
    assert score(result) == pytest.approx(mean, abs=1e-5)
    assert isinstance(result, Sample)
    assert result.record["captions"][-1]["pieces"] == len(texts) > 1
    assert "pieces" not in result.record["captions"][0]


@pytest.mark.parametrize("kind", KINDS)
def test_long_captions_can_be_cut_and_say_so(clip_folders: dict[str, Path], kind: str) -> None:
    sample = samples(1)[0].with_caption(LONG)
    result = scorer(clip_folders[kind], long_captions="truncate").process([sample])[0]
    assert score(result) == pytest.approx(cosine(clip_folders[kind], sample, LONG), abs=1e-5)
    assert isinstance(result, Sample)
    assert result.record["captions"][-1]["truncated"] is True
    assert "truncated" not in result.record["captions"][0]


@pytest.mark.parametrize(("long_captions", "flag"), [("pieces", "clip_pieces"), ("truncate", "clip_truncated")])
def test_a_long_caption_without_an_entry_is_marked_in_the_record(
    clip_folder: Path, long_captions: str, flag: str
) -> None:
    sample = Sample("long", samples(1)[0].image, LONG)
    result = scorer(clip_folder, long_captions=long_captions).process([sample])[0]
    assert isinstance(result, Sample)
    assert result.record[flag]


@pytest.mark.parametrize("kind", ["clip", "eos"])
@pytest.mark.parametrize("long_captions", ["pieces", "truncate"])
def test_captions_of_any_script_and_length_are_scored(
    clip_folders: dict[str, Path], kind: str, long_captions: str
) -> None:
    texts = {
        "nul": "a\0dog\0",
        "only nul": "\0",
        "surrogate": "a \ud800 dog",
        "emoji": "👩‍👩‍👧‍👦" * 60,
        "han": "一只红色的狗坐在草地上。" * 830,
        "thai": "สุนัขสีแดงนั่งอยู่บนหญ้า" * 410,
        "arabic": "كلب أحمر يجلس على العشب. " * 400,
        "unbroken": "xqzjv" * 2000,
        "spaces": "a" + " " * 10_000 + "dog",
        "special": "<end_of_text> [EOS] a dog <start_of_text>",
    }
    image = samples(1)[0].image
    batch = [Sample(f"s{i}", image, text) for i, text in enumerate(texts.values())]
    results = scorer(clip_folders[kind], long_captions=long_captions).process(batch)
    assert all(-1 <= score(result) <= 1 for result in results)
    longs = [i for i, text in enumerate(texts.values()) if len("".join(text.split())) > 5000]
    flag = "clip_pieces" if long_captions == "pieces" else "clip_truncated"
    marked = [isinstance(result, Sample) and flag in result.record for result in results]
    if kind == "clip":
        assert all(marked[i] for i in longs)
    assert not marked[0]
    assert not marked[8]


def test_a_sample_without_a_caption_passes_no_bound_and_one_without_an_image_fails(clip_folder: Path) -> None:
    good = samples(2)
    blank = Sample("blank", good[0].image, " \n")
    batch = [good[0], Sample("none", good[0].image), blank, good[1]]
    results = scorer(clip_folder, min=-1).process(batch)
    assert [getattr(result, "reason", None) for result in results] == [None, "no_caption", "no_caption", None]
    stage = scorer(clip_folder)
    assert stage.process(batch)[1:3] == batch[1:3], "without a bound they go on as they came"
    assert stage.process([blank]) == [blank]
    with pytest.raises(SampleError, match="no_image"):
        stage.prepare(Sample("k", caption="a dog"))


def test_every_kept_sample_has_its_embedding_without_a_caption_too(clip_folder: Path) -> None:
    batch = [*samples(2), Sample("none", samples(1)[0].image)]
    stage = scorer(clip_folder, embeddings=True)
    assert stage.array_names() == ("image",)
    assert scorer(clip_folder, embeddings=True, name="small").array_names() == ("image_small",)
    assert scorer(clip_folder).array_names() == ()
    for results in stage.process(batch), stage.process(batch[2:]):
        assert all(isinstance(result, Sample) and result.arrays["image"].shape == (24,) for result in results)
    (none,) = stage.process(batch[2:])
    assert isinstance(none, Sample)
    assert "scores" not in none.record
    assert (none.arrays["image"] == stage.process(batch)[0].arrays["image"]).all()
    bounded = scorer(clip_folder, embeddings=True, min=-1)
    assert getattr(bounded.process(batch)[2], "reason", None) == "no_caption"


def test_threads_may_prepare_together(clip_folders: dict[str, Path]) -> None:
    stage = scorer(clip_folders["eos"])
    batch = [samples(4)[i % 4].with_caption(LONG[: 7 * i + 3]) for i in range(40)]
    expected = [stage.prepare(sample) for sample in batch]
    with ThreadPoolExecutor(8) as pool:
        prepared = list(pool.map(stage.prepare, batch))
    for one, other in zip(prepared, expected, strict=True):
        assert one is not None
        assert other is not None
        assert one.captions == other.captions
        assert (one.pixels == other.pixels).all()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_close(clip_folders: dict[str, Path], kind: str) -> None:
    batch = samples()
    stage = ClipScore(model=str(clip_folders[kind]), dtype="bfloat16")
    stage.setup("cpu")
    expected = [score(result) for result in scorer(clip_folders[kind]).process(batch)]
    assert [score(result) for result in stage.process(batch)] == pytest.approx(expected, abs=0.05)
    assert stage.models[0].dtype == "bfloat16"


def test_what_was_loaded_is_recorded(clip_folder: Path) -> None:
    loaded = scorer(clip_folder).models
    assert [(info.id, info.dtype) for info in loaded] == [(str(clip_folder), "float32")]
    assert loaded[0].revision.startswith("files-")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min": 26}, "less than or equal to 1"),
        ({"min": 0.3, "max": 0.2}, "max must be at least min, got min=0.3 and max=0.2"),
        ({"name": "clip score"}, "pattern"),
        ({"dtype": "int8"}, "'auto', 'float32'"),
        ({"long_captions": "ignore"}, "'pieces' or 'truncate'"),
        ({"model": ""}, "at least 1 character"),
        ({"model": "nano", "revision": "main"}, "revision goes with a hf-hub: model"),
        ({"batch_size": 0}, "greater than or equal to 1"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClipScore(**parameters)


def test_a_large_model_says_nothing_about_nano(clip_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="mmsynth.models"):
        scorer(clip_folder)
    assert "nano" not in caplog.text


def test_nano_is_the_default_says_so_and_tells_right_from_wrong(caplog: pytest.LogCaptureFixture) -> None:
    stage = ClipScore(dtype="float32")
    stage.check()
    with caplog.at_level(logging.INFO, logger="mmsynth.models"):
        stage.setup("cpu")
    assert "'nano', the small offline default" in caplog.text
    assert stage.models[0].id == "nano"
    drawn = [s for s in mm.scenes(12, seed=3).render("scenes").take(12) if isinstance(s, Sample)]
    swapped = [replace(s, caption=other.caption) for s, other in zip(drawn, drawn[1:] + drawn[:1], strict=True)]
    right = [score(result) for result in stage.process(drawn)]
    wrong = [score(result) for result in stage.process(swapped)]
    assert sum(r > w for r, w in zip(right, wrong, strict=True)) >= 11


def test_a_broken_image_without_a_caption_fails_for_what_is_broken(clip_folder: Path) -> None:
    stage = scorer(clip_folder)
    with pytest.raises(ImageError, match="image_empty"):
        stage.prepare(Sample("empty", image=Image(b"")))


def test_fast_decoding_and_bfloat16_move_scores_of_photographs_by_less_than_two_thousandths(tmp_path: Path) -> None:
    """On a ViT-B-32 of full size; its weights are random, which make much of small differences."""
    import numpy as np

    from tests.photos import photographs

    folder = save_full_size(tmp_path, "ViT-B-32")
    batch = []
    for path in photographs(24):
        picture = Image.from_file(path).pixels()
        scale = 640 / min(picture.size)
        drawn = Image.from_pixels(picture.resize((round(picture.width * scale), round(picture.height * scale))))
        batch.append(Sample(path.stem, drawn.encoded("jpg", quality=90), "a red dog on the blue gradient"))
    exact = np.array([score(result) for result in scorer(folder).process(batch)])
    assert np.ptp(exact) > 0.05, "the model must tell these photographs apart"
    for dtype in ("bfloat16", "float32"):
        fast = scorer(folder, exact=False, dtype=dtype)
        assert np.abs(np.array([score(result) for result in fast.process(batch)]) - exact).max() < 0.002
    assert batch[0].image is not None
    cut = replace(batch[0], image=Image(batch[0].image.data[:-4000]))
    with pytest.raises(ImageError):
        fast.prepare(cut)
