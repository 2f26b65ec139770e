"""What the facts captioner says, read back by a reader of its own and held against the picture's boxes."""

import functools
import math
import random
import re
from collections import Counter

import pytest
from pydantic import ValidationError

from mmsynth.errors import SampleError
from mmsynth.facts import Absent, Facts, ObjectFacts, Relation
from mmsynth.sample import Sample
from mmsynth.testing import check_stage
from mmsynth_captioners.facts import FactsCaptioner, write_caption, write_questions
from mmsynth_captioners.facts.english import listed, number, plural, with_article
from mmsynth_captioners.facts.reading import relations
from mmsynth_renderers.scenes import COLOURS, KINDS, SceneRenderer, SceneSource, hard_negatives
from mmsynth_renderers.scenes.vocabulary import plural as in_prompts

# -- a reader of its own: what a phrase means, and whether the picture shows it ---------------------------------------

PLURALS = {f"{kind}es" if kind.endswith("s") else f"{kind}s": kind for kind in KINDS if kind != "fish"}
PLURALS["fish"] = "fish"
NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}
_KIND = "|".join([*KINDS, *PLURALS])
NOUN = re.compile(
    rf"(?:(the|{'|'.join(NUMBERS)}) )?(?:(small|large) )?(?:({'|'.join(COLOURS)}) )?({_KIND})\b(?! background)",
    re.IGNORECASE,
)
PLACE = r"(?:to the )?(left of|right of)|(above|below)"
Meaning = tuple[str, str, str, str]  # determiner, size, colour, kind


def meaning(found: "re.Match[str]") -> Meaning:
    determiner, size, colour, noun = (part or "" for part in found.groups())
    return determiner.lower(), size, colour, PLURALS.get(noun, noun)


def groups_meant(facts: Facts, meant: Meaning) -> list[int]:
    _, size, colour, kind = meant
    return [
        i
        for i, group in enumerate(facts.objects)
        if group.kind == kind and colour in {"", group.colour} and size in {"", group.size}
    ]


def the_group(facts: Facts, words: str) -> int:
    """The one group that "the …" means."""
    found = NOUN.search(words)
    assert found, words
    meant = groups_meant(facts, meaning(found))
    assert len(meant) == 1, f"{words!r} could mean {meant}"
    return meant[0]


def holds(facts: Facts, subject: int, place: str, other: int) -> bool:
    """By the boxes of the picture, not by the stated relations."""
    axis, before = {"left of": (0, True), "right of": (0, False), "above": (1, True), "below": (1, False)}[place]
    first, second = (subject, other) if before else (other, subject)
    last_edge = max(box[axis + 2] for box in facts.objects[first].boxes)
    return last_edge <= min(box[axis] for box in facts.objects[second].boxes)


def how_many(facts: Facts, words: str) -> int:
    found = NOUN.search(words)
    assert found, words
    return sum(facts.objects[i].count for i in groups_meant(facts, meaning(found)))


@functools.cache
def drawn_scenes(n: int) -> list[Facts]:
    drawn = SceneRenderer().process(list(SceneSource(n=n, seed=21).read({"start": 0, "stop": n})))
    return [Facts.model_validate(sample.record["facts"]) for sample in drawn if isinstance(sample, Sample)]


@functools.cache
def asked(n: int, each: int) -> list[tuple[Facts, dict[str, str]]]:
    return [
        (facts, pair)
        for i, facts in enumerate(drawn_scenes(n))
        for pair in write_questions(facts, random.Random(i), each)
    ]


# -- the stage -------------------------------------------------------------------------------------------------------


def scene_samples(n: int) -> list[Sample]:
    results = SceneRenderer().process(list(SceneSource(n=n).read({"start": 0, "stop": n})))
    return [result for result in results if isinstance(result, Sample)]


@pytest.mark.parametrize("detail", ["short", "full", "mixed"])
def test_captioner_keeps_the_contract(detail: str) -> None:
    for result in check_stage(FactsCaptioner(detail=detail), scene_samples(8)):
        assert isinstance(result, Sample)
        assert result.record["captions"][-1]["model"] == "facts"
        assert len(result.record["qa"]) == 4
        assert all(set(pair) == {"question", "answer", "kind", "model"} for pair in result.record["qa"])


def test_the_prompt_is_kept_among_the_captions() -> None:
    sample = scene_samples(1)[0]
    (result,) = FactsCaptioner().process([sample])
    assert isinstance(result, Sample)
    assert [entry["origin"] for entry in result.record["captions"]] == ["prompt", "synthetic"]
    assert result.caption == result.record["captions"][1]["text"] != sample.caption


def test_no_questions_when_none_are_wanted() -> None:
    (result,) = FactsCaptioner(qa=0).process(scene_samples(1))
    assert isinstance(result, Sample)
    assert "qa" not in result.record


def test_samples_without_facts_are_refused() -> None:
    with pytest.raises(SampleError) as caught:
        FactsCaptioner().prepare(Sample("bare"))
    assert caught.value.reason == "no_facts"
    with pytest.raises(SampleError, match="objects") as caught:
        FactsCaptioner().prepare(Sample("broken", record={"facts": {"background": "white"}}))
    assert caught.value.reason == "facts_invalid"


def test_parameters_are_checked() -> None:
    with pytest.raises(ValidationError):
        FactsCaptioner(detail="long")
    with pytest.raises(ValidationError):
        FactsCaptioner(qa=-1)


# -- captions --------------------------------------------------------------------------------------------------------


def assert_states_everything(facts: Facts, caption: str) -> None:
    assert facts.background in caption
    assert len(caption.split()) <= 40
    nouns = [meaning(found) for found in NOUN.finditer(caption)]
    introduced = sorted((NUMBERS[n], size, colour, kind) for n, size, colour, kind in nouns if n != "the")
    assert introduced == sorted((g.count, g.size, g.colour, g.kind) for g in facts.objects), caption
    told = set()
    for found in re.finditer(rf"({NOUN.pattern})(?: is| are)? (?:{PLACE}) ({NOUN.pattern})", caption, re.IGNORECASE):
        place = found[6] or found[7]
        subject, other = the_group(facts, found[1]), the_group(facts, found[8])
        assert holds(facts, subject, place, other), caption
        told.add(frozenset((subject, other)))
    assert told == {frozenset((r.subject, r.object)) for r in facts.relations}, caption


def test_full_captions_state_every_fact_and_nothing_false() -> None:
    for i, facts in enumerate(drawn_scenes(500)):
        assert_states_everything(facts, write_caption(facts, random.Random(i)))


def test_short_captions_state_counts_colours_and_kinds() -> None:
    for i, facts in enumerate(drawn_scenes(200)):
        caption = write_caption(facts, random.Random(i), "short")
        nouns = [meaning(found) for found in NOUN.finditer(caption)]
        told = sorted((NUMBERS[n], colour, kind) for n, _, colour, kind in nouns)
        assert told == sorted((g.count, g.colour, g.kind) for g in facts.objects)


def test_one_scene_is_told_in_several_ways() -> None:
    facts = next(facts for facts in drawn_scenes(50) if len(facts.objects) == 3)
    assert len({write_caption(facts, random.Random(i)) for i in range(60)}) >= 15


def test_mixed_captions_are_short_or_full() -> None:
    facts = drawn_scenes(50)[0]
    full = sum(facts.background in write_caption(facts, random.Random(i), "mixed") for i in range(200))
    assert 60 < full < 140


def test_the_full_captions_of_a_scene_and_its_hard_negatives_differ() -> None:
    for i, facts in enumerate(drawn_scenes(200)):
        negatives = hard_negatives(facts, seed=i)
        captions = [write_caption(scene, random.Random(i)) for scene in (facts, *negatives.values())]
        assert len(set(captions)) == len(captions)


# -- questions -------------------------------------------------------------------------------------------------------


def answer_by_picture(facts: Facts, question: str) -> bool:
    """Yes or no, worked out from the question's words."""
    placed = re.match(rf"(?:Is|Are) (the .+?) (?:{PLACE}) (the .+)\?$", question)
    if placed:
        place = placed[2] or placed[3]
        return holds(facts, the_group(facts, placed[1]), place, the_group(facts, placed[4]))
    exactly = re.match(r"(?:Is|Are) there exactly (\w+) (.+)\?$", question)
    if exactly:
        words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
        return how_many(facts, exactly[2]) == words.split().index(exactly[1]) + 1
    property_ = re.match(r"(?:Is|Are) (the .+) (\w+)\?$", question)
    if property_:
        group = facts.objects[the_group(facts, property_[1])]
        return property_[2] in {group.colour, group.size}
    assert re.match(r"(Are there any|Is there an?|Can you see any) ", question), question
    return how_many(facts, question) > 0


def of_kind(kind: str) -> list[tuple[Facts, dict[str, str]]]:
    return [(facts, pair) for facts, pair in asked(400, 20) if pair["kind"] == kind]


def test_every_yes_and_no_is_right() -> None:
    assert len(of_kind("yes_no")) > 1000
    for facts, pair in of_kind("yes_no"):
        assert pair["answer"] == ("Yes" if answer_by_picture(facts, pair["question"]) else "No"), (pair, facts)


def test_yes_and_no_are_as_frequent_in_every_form_of_question() -> None:
    answers: dict[str, Counter[str]] = {}
    for i, facts in enumerate(drawn_scenes(1500)):
        for pair in write_questions(facts, random.Random(i), 4):
            if pair["kind"] == "yes_no":
                relation = re.search("left of|right of|above|below", pair["question"])
                form = relation[0] if relation else " ".join(pair["question"].split()[:3])
                form = re.sub(r"^(Is|Are) the .*", "is it so", form)
                answers.setdefault("all", Counter())[pair["answer"]] += 1
                answers.setdefault(re.sub("^(Is|Are) there exactly", "exactly", form), Counter())[pair["answer"]] += 1
    for form, counted in answers.items():
        total = counted.total()
        # four standard deviations of a fair coin
        assert abs(counted["Yes"] - total / 2) <= 2 * math.sqrt(total), (form, counted)
    assert answers["all"].total() > 1500


def test_colours_asked_for_are_right() -> None:
    for facts, pair in of_kind("colour"):
        group = facts.objects[the_group(facts, pair["question"])]
        assert pair["answer"] == group.colour.capitalize()


def test_counts_asked_for_are_right() -> None:
    for facts, pair in of_kind("count"):
        if "objects" in pair["question"]:
            assert pair["answer"] == number(sum(group.count for group in facts.objects)).capitalize()
        else:
            assert pair["answer"] == number(how_many(facts, pair["question"])).capitalize()


def test_places_asked_for_are_right() -> None:
    for facts, pair in of_kind("where"):
        group = the_group(facts, pair["question"])
        places = re.findall(rf"(?:{PLACE}) (the [\w ]+?)(?=,| and|$)", pair["answer"], re.IGNORECASE)
        assert places
        for left_right, above_below, other in places:
            assert holds(facts, group, (left_right or above_below).lower(), the_group(facts, other))


def test_what_is_somewhere_is_all_that_is_there() -> None:
    for facts, pair in of_kind("what"):
        placed = re.match(rf"What is (?:{PLACE}) (the .+)\?$", pair["question"])
        if placed:
            other, place = the_group(facts, placed[3]), placed[1] or placed[2]
            there = [i for i in range(len(facts.objects)) if i != other and holds(facts, i, place, other)]
        elif "Which objects are" in pair["question"]:
            there = [i for i, group in enumerate(facts.objects) if f"are {group.colour}?" in pair["question"]]
        elif "What objects" in pair["question"]:
            there = list(range(len(facts.objects)))
        else:
            assert pair["answer"].lower() == facts.background
            continue
        told = sorted((NUMBERS[m[0]], m[3]) for m in map(meaning, NOUN.finditer(pair["answer"])))
        assert told == sorted((facts.objects[i].count, facts.objects[i].kind) for i in there), (pair, facts)


def test_what_is_asked_for_and_not_present_is_not_there() -> None:
    assert len(of_kind("not_present")) > 100
    for facts, pair in of_kind("not_present"):
        assert re.match(r"There (is|are) no ", pair["answer"])
        for words in (pair["question"], pair["answer"]):
            assert how_many(facts, words.replace("How many ", "").replace("There are no ", "")) == 0


def test_no_question_comes_twice_and_all_kinds_come_up() -> None:
    for i, facts in enumerate(drawn_scenes(100)):
        questions = [pair["question"] for pair in write_questions(facts, random.Random(i), 12)]
        assert len(set(questions)) == len(questions)
    kinds = {pair["kind"] for _, pair in asked(400, 20)}
    assert kinds == {"yes_no", "colour", "count", "what", "where", "not_present"}


# -- other worlds ----------------------------------------------------------------------------------------------------

PHOTO = Facts(
    background="leafy",
    objects=(
        ObjectFacts(kind="person", colour="", size="", count=12),
        ObjectFacts(kind="wooden box", colour="old orange", size="", count=1),
        ObjectFacts(kind="mouse", colour="grey", size="small", count=2),
        ObjectFacts(kind="mouse", colour="grey", size="large", count=1),
    ),
    relations=(
        Relation(subject=1, relation="inside", object=0),
        Relation(subject=0, relation="above", object=2),
        Relation(subject=2, relation="above", object=3),
    ),
    absent=(Absent(kind="person", colour="green"), Absent(kind="hour hand")),
)


def test_facts_of_any_world_are_spoken() -> None:
    captions = [write_caption(PHOTO, random.Random(i)) for i in range(50)]
    assert all(
        ("twelve people" in caption.lower() and "leafy background" in caption) or "is leafy" in caption
        for caption in captions
    )
    assert all("an old orange wooden box" in caption.lower() and " inside " in caption for caption in captions)
    questions = {
        pair["question"]: pair["answer"] for i in range(80) for pair in write_questions(PHOTO, random.Random(i), 30)
    }
    assert questions["How many people are there?"] == "Twelve"
    assert questions["How many mice are there?"] == "Three"
    assert questions["Where is the hour hand?"] == "There is no hour hand."
    assert "What colour are the people?" not in questions
    assert "Which objects are grey?" not in questions  # some of the people might be
    assert not any("the mouse" in question for question in questions)


def test_a_scene_of_nothing_is_told_as_such() -> None:
    empty = Facts(background="white", objects=())
    assert write_caption(empty, random.Random(0)) == "Nothing on a white background."
    assert [pair["kind"] for pair in write_questions(empty, random.Random(0), 9)] == ["what"]


def test_relations_follow_the_other_way_round_and_through_a_third_group() -> None:
    held = relations(PHOTO)
    assert {(0, "above", 3), (3, "below", 0), (2, "below", 0)} <= held
    assert not any(1 in {a, b} and word != "inside" for a, word, b in held)


@pytest.mark.parametrize(
    ("one", "many"),
    [("star", "stars"), ("cross", "crosses"), ("box", "boxes"), ("fish", "fish"), ("berry", "berries"), ("key", "keys"),
     ("mouse", "mice"), ("fire bush", "fire bushes"), ("hourglass", "hourglasses"), ("leaf", "leaves")],
)  # fmt: skip
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_the_prompts_of_scenes_and_the_captions_have_the_same_plurals() -> None:
    assert {kind: plural(kind) for kind in KINDS} == {kind: in_prompts(kind) for kind in KINDS}


def test_articles_go_by_sound() -> None:
    spoken = [
        with_article(word) for word in ("star", "umbrella", "hourglass", "unicorn", "orange fish", "one-way sign")
    ]
    assert spoken == ["a star", "an umbrella", "an hourglass", "a unicorn", "an orange fish", "a one-way sign"]


def test_lists_are_joined_as_people_do() -> None:
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
