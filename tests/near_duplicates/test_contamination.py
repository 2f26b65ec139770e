"""Texts that an evaluation set has too."""

import pytest

from mmsynth.near_duplicates.contamination import Ngrams, shared_texts

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
MIDDLE = "a brown dog runs over the wet grass"
SHORT = "what colour is the cat"


@pytest.mark.parametrize(
    ("text", "row"),
    [
        (f"before {LONG} after", 0),
        ("TWO three, four five six seven eight nine ten eleven twelve thirteen: fourteen!", 0),
        ("three four five six seven eight nine ten eleven twelve thirteen fourteen", -1),
        (f"look, {MIDDLE}.", 1),
        ("a brown dog runs over the grass", -1),
        ("What colour is the cat?", 2),
        (f"{SHORT} on the left", -1),
        ("a cat", -1),
        ("", -1),
    ],
)
def test_what_counts_as_shared(text: str, row: int) -> None:
    assert Ngrams([LONG, MIDDLE, SHORT, "a cat"]).find(text) == row


def test_a_shorter_run_finds_more() -> None:
    assert shared_texts(["x four five six seven eight y"], [LONG], ngram=5).tolist() == [0]
    assert shared_texts([], [LONG]).tolist() == []
    assert shared_texts(["x"], []).tolist() == [-1]
    with pytest.raises(ValueError, match="ngram must be at least 5"):
        Ngrams([], ngram=4)


def test_texts_that_are_too_short_are_counted() -> None:
    assert Ngrams(["a cat", LONG, ""]).ignored == 2
