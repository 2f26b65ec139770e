"""The judge of what models say of scenes: exact captions are all true and whole, almost-true ones are found out."""

import random

import pytest

from mmsynth.facts import Facts
from mmsynth_captioners.facts import write_caption
from mmsynth_captioners.facts.questions import write_questions
from mmsynth_renderers.scenes import hard_negatives, judge
from mmsynth_renderers.scenes.draw import draw, lay_out
from mmsynth_renderers.scenes.grammar import random_facts

SCENES = range(150)


def drawn(number: int) -> Facts:
    return draw(lay_out(random_facts(random.Random(number)), number), 64)[1]


def test_every_statement_of_an_exact_caption_is_true_and_none_is_missing() -> None:
    for number in SCENES:
        facts = drawn(number)
        caption = write_caption(facts, random.Random(number), "full")
        said = judge.read(caption)
        assert all(true for _, true in judge.statements(said, facts)), caption
        assert all(there for _, there in judge.stated(said, facts)), caption


def test_a_short_caption_is_true_and_leaves_something_out() -> None:
    for number in SCENES:
        facts = drawn(number)
        said = judge.read(write_caption(facts, random.Random(number), "short"))
        assert all(true for _, true in judge.statements(said, facts))
        assert {sort for sort, there in judge.stated(said, facts) if not there} <= {"size", "relation", "background"}


@pytest.mark.parametrize("change", ["colour", "shape", "count", "relation"])
def test_an_almost_true_caption_is_found_out(change: str) -> None:
    met = 0
    for number in SCENES:
        facts = drawn(number)
        changed = hard_negatives(facts, number).get(change)
        if changed is None:
            continue
        met += 1
        caption = write_caption(changed, random.Random(number), "full")
        assert not all(true for _, true in judge.statements(judge.read(caption), facts)), caption
    assert met > 50


def test_the_expected_answer_is_right_and_another_scenes_mostly_is_not() -> None:
    wrong = 0
    for number in SCENES:
        facts = drawn(number)
        for pair in write_questions(facts, random.Random(number), 6):
            asked = (pair["kind"], pair["question"])
            assert judge.is_right(*asked, pair["answer"], pair["answer"], facts)
            wrong += judge.is_right(*asked, "Seventeen", pair["answer"], facts)
    assert wrong == 0


def test_a_true_place_is_right_though_another_was_expected() -> None:
    facts = next(f for f in map(drawn, range(1000)) if len(f.objects) == 2 and f.relations[0].relation == "above")
    upper, lower = (facts.objects[getattr(facts.relations[0], end)] for end in ("subject", "object"))
    question = f"Where is the {upper.colour} {upper.kind}?"
    assert judge.is_right("where", question, f"Above the {lower.colour} {lower.kind}", "Elsewhere", facts)
    assert not judge.is_right("where", question, f"Below the {lower.colour} {lower.kind}", "Elsewhere", facts)
