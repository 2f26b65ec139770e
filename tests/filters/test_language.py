"""Language tells in which language a caption is, with no network."""

from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.errors import RecipeError
from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.language import Language, count_letters

CAPTIONS = [
    ("en", "two people on a beach"),
    ("en", "a photo of a cat sitting on a sofa"),
    ("en", "A MAN RIDING A WAVE ON A SURFBOARD"),
    ("fr", "Deux personnes se promènent sur la plage"),
    ("de", "Zwei Menschen gehen am Strand spazieren"),
    ("es", "Dos personas caminan por la playa"),
    ("it", "una tazza di caffè sul tavolo"),
    ("pt", "duas pessoas na praia"),
    ("nl", "een kopje koffie op tafel"),
    ("pl", "czerwony pies na trawie"),
    ("uk", "собака сидить на траві"),
    ("ar", "كلب أحمر يجلس على العشب"),
    ("ko", "빨간 개가 풀밭에 앉아 있다"),
    ("hi", "एक लाल कुत्ता घास पर बैठा है"),
    ("zh", "一只红色的狗坐在草地上"),
    ("ja", "赤い犬が草の上に座っている"),
    ("th", "สุนัขสีแดงนั่งอยู่บนหญ้า"),
    ("vi", "một con chó màu đỏ trên cỏ"),
]


def ready(**parameters: Any) -> Language:
    stage = Language(**parameters)
    stage.check()
    stage.setup("cpu")
    return stage


def reasons(stage: Language, captions: list[str | None]) -> list[str | None]:
    results = stage.process([Sample(f"k{i}", caption=caption) for i, caption in enumerate(captions)])
    return [getattr(result, "reason", None) for result in results]


def test_a_sentences_language_is_told_and_how_sure_it_is() -> None:
    results = ready().process([Sample(f"k{i}", caption=text) for i, (_, text) in enumerate(CAPTIONS)])
    told = [result.record["language"] for result in results if isinstance(result, Sample)]
    assert told == [language for language, _ in CAPTIONS]
    sure = [result.record["scores"]["language_confidence"] for result in results if isinstance(result, Sample)]
    assert all(0.3 < confidence <= 1 for confidence in sure)


@pytest.mark.parametrize("caption", ["dog", "12345 !!!!!!!", "…", "狗", "Hi", "Paris Hilton", "Notre-Dame, Paris"])
def test_what_has_too_few_letters_or_may_be_a_name_is_undetermined(caption: str) -> None:
    (result,) = ready().process([Sample("k", caption=caption)])
    assert isinstance(result, Sample)
    assert result.record["language"] == "und"
    assert "scores" not in result.record


def test_letters_of_a_syllable_count_twice() -> None:
    assert count_letters("a dog, 12") == 4
    assert count_letters("红色的狗") == 8
    assert count_letters("") == 0


def test_only_the_languages_to_keep_are_kept() -> None:
    captions = ["two people on a beach", "Zwei Menschen gehen am Strand spazieren", "dog", None]
    assert reasons(ready(keep=["en"]), captions) == [None, "language_not_kept", None, "no_caption"]
    assert reasons(ready(keep=["en"], min_confidence=0.1), ["dog"]) == ["language_undetermined"]
    assert reasons(ready(keep=["de", "und"]), captions) == ["language_not_kept", None, None, "no_caption"]
    assert reasons(ready(), captions) == [None] * 4


@pytest.mark.parametrize("caption", ["Hi", "Paris Hilton", "Angela Merkel", "ok", "Taj Mahal"])
def test_what_is_too_short_to_tell_is_not_dropped_for_its_language(caption: str) -> None:
    assert reasons(ready(keep=["en"]), [caption]) == [None]


@pytest.mark.parametrize(
    "caption", ["two men", "street art", "a Mercedes in Berlin", "vintage car", "Angela Merkel visits Paris"]
)
def test_a_language_that_is_a_guess_is_no_reason_to_drop(caption: str) -> None:
    (result,) = ready(keep=["en"]).process([Sample("k", caption=caption)])
    assert isinstance(result, Sample)
    assert result.record["language"] == "und"
    assert result.record["scores"]["language_confidence"] < 0.25
    assert reasons(ready(keep=["en"], und_below=0), [caption]) == ["language_not_kept"]


def test_an_unsure_language_passes_no_bound_and_the_dropped_keep_their_score() -> None:
    stage = ready(min_confidence=0.6)
    found = reasons(stage, ["two people on a beach", "red bicycle", "dog"])
    assert found == [None, "language_undetermined", "language_undetermined"]
    stage = ready(min_confidence=0.6, und_below=0)
    (result,) = stage.process([Sample("k", caption="red bicycle")])
    assert isinstance(result, Dropped)
    assert result.reason == "language_confidence_below_min"
    assert result.sample is not None
    assert result.sample.record["language"] == "en"
    assert result.sample.record["scores"]["language_confidence"] < 0.6


def test_fewer_possible_languages_make_a_short_caption_surer() -> None:
    wide, narrow = ready(), ready(among=["en", "de", "fr"])
    assert wide.classify("red bicycle")[0] == narrow.classify("red bicycle")[0] == "en"
    assert narrow.classify("red bicycle")[1] > wide.classify("red bicycle")[1] + 0.3


def test_keeps_the_stage_contract() -> None:
    captions = [*(text for _, text in CAPTIONS[:6]), "dog", None]
    check_stage(Language(keep=["en"], min_confidence=0.3), [Sample(f"k{i}", caption=c) for i, c in enumerate(captions)])


def test_a_language_that_is_none_is_refused_with_what_was_meant() -> None:
    with pytest.raises(RecipeError, match=r"no language 'eng'\. Did you mean 'en'\?"):
        Language(keep=["eng"]).check()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"keep": []}, "at least 1"),
        ({"min_confidence": 2}, "less than or equal to 1"),
        ({"keep": ["it"], "among": ["en", "de"]}, "keep names it, which among leaves out"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Language(**parameters)
