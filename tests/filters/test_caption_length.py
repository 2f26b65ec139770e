"""CaptionLength counts words in any script."""

from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.caption_length import CaptionLength, count_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", 0),
        ("a red dog", 3),
        ("a dog — on grass, at 5:30!", 6),
        ("don't e-mail", 2),
        ("... !!!", 0),
        ("собака сидит на траве", 4),
        ("كلب أحمر يجلس على العشب", 5),
        ("빨간 개가 풀밭에 앉아 있다", 5),
        ("एक लाल कुत्ता घास पर बैठा है", 7),
        ("一只红色的狗坐在草地上", 6),
        ("一只红色的狗,坐在草地上。", 6),
        ("赤い犬が草の上に座っている", 7),
        ("iPhone 手机 on 桌子", 4),
        ("สุนัขสีแดงนั่งอยู่บนหญ้า", 5),
    ],
)
def test_words_are_counted_in_any_script(text: str, words: int) -> None:
    assert count_words(text) == words


def reason(stage: CaptionLength, caption: str | None) -> str | None:
    return getattr(stage.process([Sample("k", caption=caption)])[0], "reason", None)


def test_bounds_are_inclusive() -> None:
    stage = CaptionLength(min_words=2, max_words=4)
    found = [reason(stage, text) for text in ("dog", "a dog", "a b c d", "a b c d e")]
    assert found == ["words_below_min", None, None, "words_above_max"]
    stage = CaptionLength(min_chars=3, max_chars=5)
    found = [reason(stage, text) for text in ("ab", "abc", "  a \n b  c", "abcdef")]
    assert found == ["chars_below_min", None, None, "chars_above_max"]


def test_no_caption_passes_no_bound() -> None:
    assert reason(CaptionLength(min_words=1), None) == reason(CaptionLength(max_words=1), " ") == "no_caption"
    (result,) = CaptionLength().process([Sample("k")])
    assert isinstance(result, Sample)
    assert "scores" not in result.record


def test_without_a_bound_it_only_scores() -> None:
    (result,) = CaptionLength().process([Sample("k", caption="a  red dog")])
    assert isinstance(result, Sample)
    assert result.record["scores"] == {"words": 3, "chars": 9}
    assert CaptionLength().score_names() == ("words", "chars")


def test_the_dropped_keep_their_scores() -> None:
    (result,) = CaptionLength(max_words=2).process([Sample("k", caption="a red dog")])
    assert isinstance(result, Dropped)
    assert result.sample is not None
    assert result.sample.record["scores"]["words"] == 3


def test_long_captions_of_any_kind_are_counted() -> None:
    for text in ("狗" * 10_000, "a " * 5_000, "x" * 10_000, "\0" * 10_000, "สุนัข" * 2_000):
        assert count_words(text) <= len(text)


def test_keeps_the_stage_contract() -> None:
    captions = ["a", "a red dog", "a very red dog on the grass", None]
    check_stage(CaptionLength(min_words=2, max_words=4), [Sample(f"k{i}", caption=c) for i, c in enumerate(captions)])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_words": -1}, "greater than or equal to 0"),
        ({"min_words": 5, "max_words": 4}, "max_words must be at least min_words, got min_words=5 and max_words=4"),
        ({"min_chars": 5, "max_chars": 4}, "max_chars must be at least min_chars, got min_chars=5 and max_chars=4"),
    ],
)
def test_bounds_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CaptionLength(**parameters)
