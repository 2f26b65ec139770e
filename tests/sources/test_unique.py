"""Keys are unique in a run, and which are renamed depends on nothing but their order."""

import random

from mmsynth.sources.unique import UniqueKeys


def claimed(batches: list[list[str]]) -> list[str]:
    keys = UniqueKeys()
    found = []
    for batch in batches:
        renamed = keys.claim(batch)
        found.extend(renamed.get(i, key) for i, key in enumerate(batch))
    return found


def test_the_first_keeps_its_key_and_all_differ() -> None:
    draw = random.Random(2)
    names = [f"k{draw.randrange(300)}" for _ in range(2000)]
    found = claimed([names])
    assert len(set(found)) == 2000
    assert [found[names.index(name)] for name in set(names)] == list(set(names))


def test_batches_do_not_matter() -> None:
    draw = random.Random(3)
    names = [f"k{draw.randrange(50)}" for _ in range(500)]
    assert claimed([names]) == claimed([[name] for name in names]) == claimed([names[:77], [], names[77:]])


def test_a_new_key_that_is_taken_too_is_not_given() -> None:
    other = claimed([["a", "a"]])[1]
    found = claimed([[other, "a", "a", "a"]])
    assert len(set(found)) == 4
    assert found[:2] == [other, "a"]
    found = claimed([["a", "a"], [other, "a"]])
    assert len(set(found)) == 4
