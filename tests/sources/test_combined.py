"""concat and mix: several sources as one, in an order that depends on nothing but the recipe."""

import gzip
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mmsynth as mm
from mmsynth.errors import PluginError, RecipeError, SourceError
from mmsynth.pipeline import Pipeline
from mmsynth.recipe import Recipe
from mmsynth.sample import Sample
from mmsynth.sources.base import Slice, Source, Unreadable
from tests.engine.run_files import records, rows, shard_digests
from tests.sources.source_files import everything, pairs, picture, write_tar


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of five pictures and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        (folder / f"p{i}.png").write_bytes(picture(i))
    (folder / "notes.pdf").write_bytes(b"%PDF")
    return folder


@pytest.fixture
def table(tmp_path: Path, photos: Path) -> Path:
    """A table of four rows, whose keys are their numbers."""
    path = tmp_path / "table.csv"
    path.write_text("image,caption\n" + "".join(f"{photos / f'p{i}.png'},row {i}\n" for i in range(4)))
    return path


def read(pipeline: Pipeline, samples_per_slice: int = 3) -> list[Sample | Unreadable]:
    return everything(pipeline.recipe.source, samples_per_slice)


def names(found: list[Sample | Unreadable]) -> list[tuple[str, str | None]]:
    return [(one.key, one.caption if isinstance(one, Sample) else one.reason) for one in found]


def parts(found: list[Sample | Unreadable]) -> list[str]:
    return [one.record["source"]["part"] for one in found if isinstance(one, Sample)]


def combined(photos: Path, table: Path) -> dict[str, Pipeline]:
    """Both of the same parts: a folder, a table and scenes, two of which number their samples alike."""
    return {
        "concat": mm.concat(photos, table, mm.scenes(6)),
        "mix": mm.mix([(photos, 1), (table, 2), (mm.scenes(6), 3)], seed=4),
    }


# -- what both promise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_every_sample_comes_once_under_a_key_of_its_own(kind: str, photos: Path, table: Path) -> None:
    found = read(combined(photos, table)[kind])
    assert len(found) == 6 + 4 + 6
    assert len({one.key for one in found}) == len(found)
    assert Counter(parts(found)) == {"0": 5, "1": 4, "2": 6}
    assert [one.reason for one in found if isinstance(one, Unreadable)] == ["not_an_image_file"]
    # each part's own samples are in the part's own order
    for number, alone in enumerate((mm.read(photos), mm.read(table), mm.scenes(6))):
        own = [one for one in found if isinstance(one, Sample) and one.record["source"]["part"] == str(number)]
        assert [one.caption for one in own] == [one.caption for one in read(alone) if isinstance(one, Sample)]


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_the_first_keeps_its_key_and_a_repeat_tells_its_own(kind: str, photos: Path, table: Path) -> None:
    seen = set()
    for one in read(combined(photos, table)[kind]):
        if isinstance(one, Sample):
            source = one.record["source"]
            original = source.get("original_key", one.key)
            assert (original in seen) == ("duplicate_key" in source.get("repaired", ()))
            seen.add(original)
    assert "000000003" in seen


@pytest.mark.parametrize("kind", ["concat", "mix"])
@pytest.mark.parametrize("samples_per_slice", [1, 2, 5, 100])
def test_the_order_does_not_depend_on_how_it_is_cut(
    kind: str, samples_per_slice: int, photos: Path, table: Path
) -> None:
    pipeline = combined(photos, table)[kind]
    cut = read(pipeline, samples_per_slice)
    assert names(cut) == names(read(pipeline))
    assert parts(cut) == parts(read(pipeline))


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_any_slice_is_read_on_its_own(kind: str, photos: Path, table: Path) -> None:
    source = combined(photos, table)[kind].recipe.source
    whole = names(everything(source))
    pieces = list(source.slices(3))
    elsewhere: Source = pickle.loads(pickle.dumps(source))
    last_first = [list(elsewhere.read(json.loads(json.dumps(piece.payload)))) for piece in reversed(pieces)]
    assert names([one for found in reversed(last_first) for one in found]) == whole


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_slices_are_cut_as_they_are_asked_for(kind: str) -> None:
    parts: list[Any] = [mm.scenes(10**12), mm.scenes(10**12, seed=1)]
    pipeline = mm.concat(*parts) if kind == "concat" else mm.mix([(part, 1) for part in parts])
    first = next(pipeline.recipe.source.slices(100))
    assert first.size == 100
    assert len(list(pipeline.recipe.source.read(first.payload))) == 100


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_counts_are_those_of_the_parts(kind: str, photos: Path, table: Path) -> None:
    assert combined(photos, table)[kind].recipe.source.count() is None  # a csv's rows are not counted beforehand
    both = mm.concat(mm.scenes(4), photos) if kind == "concat" else mm.mix([(mm.scenes(4), 1), (photos, 1)])
    assert both.recipe.source.count() == 4 + 6


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_the_recipe_survives_yaml_with_every_part(kind: str, photos: Path, table: Path, tmp_path: Path) -> None:
    pipeline = combined(photos, table)[kind].caption("facts")
    path = tmp_path / "recipe.yaml"
    path.write_text(pipeline.recipe.to_yaml())
    again = Recipe.from_file(path)
    assert again == pipeline.recipe
    assert again.fingerprint() == pipeline.recipe.fingerprint()
    assert names(everything(again.source)) == names(read(pipeline))


def test_recipes_are_written_as_documented(photos: Path, table: Path) -> None:
    both = combined(photos, table)
    assert both["concat"].recipe.to_dict()["source"] == {
        "kind": "concat",
        "sources": [
            {"kind": "folder", "path": str(photos)},
            {"kind": "table", "path": str(table)},
            {"kind": "scenes", "n": 6},
        ],
    }
    assert both["mix"].recipe.to_dict()["source"]["sources"][1] == {
        "source": {"kind": "table", "path": str(table)},
        "weight": 2.0,
    }


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_a_run_cut_short_and_one_by_two_workers_give_the_same_bytes(
    kind: str, photos: Path, table: Path, tmp_path: Path
) -> None:
    pipeline = combined(photos, table)[kind]
    pipeline.write(tmp_path / "whole", samples_per_shard=4)
    pipeline.write(tmp_path / "cut", samples_per_shard=4, limit=6)
    pipeline.write(tmp_path / "cut", samples_per_shard=4)
    pipeline.write(tmp_path / "workers", samples_per_shard=4, workers=2)
    wanted = shard_digests(tmp_path / "whole")
    assert len([name for name in wanted if name.endswith(".tar")]) >= 2
    assert shard_digests(tmp_path / "cut") == wanted
    assert shard_digests(tmp_path / "workers") == wanted
    assert len(rows(tmp_path / "whole")) == 16


@pytest.mark.parametrize("kind", ["concat", "mix"])
def test_sources_of_sources(kind: str, photos: Path) -> None:
    inner = mm.concat(photos, mm.scenes(3)) if kind == "concat" else mm.mix([(photos, 1), (mm.scenes(3), 1)])
    found = read(mm.concat(mm.scenes(2), inner))
    assert Counter(parts(found)) == {"0": 2, "1.0": 5, "1.1": 3}
    assert len({one.key for one in found}) == len(found) == 11
    mixed = read(mm.mix([(mm.scenes(2), 1), (inner, 5)]))
    assert sorted(parts(mixed)) == sorted(parts(found))
    assert len({one.key for one in mixed}) == len(mixed) == 11


def test_scores_and_descriptions_of_runs_come_along(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        mm.scenes(5, seed=seed).render("scenes").filter("image_size").write(tmp_path / name)
    both = mm.concat(mm.select(tmp_path / "a", where="short_side > 1"), mm.select(tmp_path / "b"))
    both.write(tmp_path / "both")
    assert {"short_side", "aspect"} <= set(both.recipe.source.score_names())
    assert all(row["score_short_side"] == 64 for row in rows(tmp_path / "both"))
    told = json.loads((tmp_path / "both" / "part0_selection.json").read_text())
    assert told["decision"] == {"where": "short_side > 1"}
    assert (tmp_path / "both" / "part1_selection.json").exists()
    assert not (tmp_path / "both" / "selection.json").exists()


def test_no_secret_of_a_part_is_written(photos: Path, tmp_path: Path) -> None:
    url = f"file://{photos}"
    recipe = Recipe.from_dict(
        {"source": {"kind": "concat", "sources": [{"kind": "folder", "path": url + "?token=hunter2secret"}]}}
    )
    assert "hunter2secret" in recipe.to_yaml()
    assert "hunter2secret" not in json.dumps([recipe.to_dict(with_run=False), recipe.identity()])


# -- mix --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_near_the_weights(seed: int) -> None:
    sources = [(mm.scenes(20_000), 0.6), (mm.scenes(20_000), 0.3), (mm.scenes(20_000), 0.1)]
    mixed = mm.mix(sources, seed=seed)
    order = next(mixed.recipe.source.slices(5_000)).payload["order"]
    shares = [order.count(part) / len(order) for part in range(3)]
    # three standard deviations of 5,000 draws
    assert shares == pytest.approx([0.6, 0.3, 0.1], abs=3 * (0.25 / 5_000) ** 0.5)


def test_weights_need_not_add_up_to_one_and_seeds_draw_differently() -> None:
    def order(first: float, second: float, seed: int = 0) -> list[int]:
        mixed = mm.mix([(mm.scenes(500), first), (mm.scenes(500), second)], seed=seed)
        drawn: list[int] = next(mixed.recipe.source.slices(400)).payload["order"]
        return drawn

    assert order(2, 6) == order(0.25, 0.75)
    assert order(1, 1, seed=1) != order(1, 1, seed=2)


def test_when_a_part_runs_out_the_others_go_on_by_their_weights() -> None:
    mixed = mm.mix([(mm.scenes(4_000), 1), (mm.scenes(50), 2), (mm.scenes(4_000), 1)])
    order = [part for piece in mixed.recipe.source.slices(1_000) for part in piece.payload["order"]]
    assert Counter(order) == {0: 4_000, 1: 50, 2: 4_000}
    last = len(order) - 1 - order[::-1].index(1)
    after = order[last + 1 : last + 2_001]
    assert after.count(0) / len(after) == pytest.approx(0.5, abs=0.04)


def test_until_first_ends_with_the_part_that_ends_first() -> None:
    sources = [(mm.scenes(1_000), 1), (mm.scenes(60), 3)]
    found = read(mm.mix(sources, until="first"), 100)
    assert parts(found)[-1] == "1"
    assert parts(found).count("1") == 60
    assert parts(found).count("0") < 60
    whole = read(mm.mix(sources), 100)
    assert names(whole)[: len(found)] == names(found)
    assert mm.mix(sources, until="first").recipe.source.count() is None


def test_a_mapping_of_paths_to_weights(photos: Path, table: Path) -> None:
    fluent = mm.mix({photos: 0.7, str(table): 0.3}, seed=2)
    listed = [{"source": str(photos), "weight": 0.7}, {"source": str(table), "weight": 0.3}]
    assert fluent == mm.source("mix", listed, seed=2)
    assert fluent == mm.source("mix", {str(photos): 0.7, str(table): 0.3}, seed=2)


class Elsewhere(Source):
    """Ten samples, whose record tells in words where they are from."""

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        for start in range(0, 10, samples_per_slice):
            yield Slice(start, min(samples_per_slice, 10 - start))

    def read(self, payload: Any) -> Iterator[Sample]:
        for i in range(payload, min(10, payload + 3)):
            yield Sample(f"c{i}", record={"source": "elsewhere"})


def test_a_strangers_source_may_tell_its_place_in_words() -> None:
    found = read(mm.concat(Elsewhere()))
    assert [one.record["source"] for one in found if isinstance(one, Sample)] == [
        {"path": "elsewhere", "part": "0"}
    ] * 10


# -- tars whose samples only reading tells -----------------------------------------------------------------------------


def test_concat_tells_the_same_keys_of_compressed_tars_apart(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", pairs("x", "y"))
    packed = [tmp_path / "b.tar.gz", tmp_path / "c.tar.gz"]
    for path in packed:
        path.write_bytes(gzip.compress(tar.read_bytes(), mtime=0))
    source = mm.concat(tar, *packed).recipe.source
    found = [one for piece in source.slices(10) for one in source.read(piece.payload)]
    assert len({one.key for one in found}) == len(found) == 6
    assert [one.caption for one in found if isinstance(one, Sample)] == ["x", "y"] * 3
    assert [one.record["source"].get("original_key") for one in found if isinstance(one, Sample)] == [
        *(None, None),
        *("x", "y", "x", "y"),
    ]


def test_mix_says_what_it_cannot_cut(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "a.tar", pairs("x", "y"))
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(tar.read_bytes()))
    source = mm.mix([(mm.scenes(3), 1), (tmp_path / "c.tar.gz", 1)]).recipe.source
    with pytest.raises(SourceError, match=r"mix cannot cut sources\[1\].*or use concat"):
        list(source.slices(10))


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ({"kind": "concat"}, RecipeError, r"sources is required \(r.yaml, source concat\)"),
        ({"kind": "concat", "sources": []}, RecipeError, r"sources: .*at least 1"),
        ({"kind": "concat", "sources": "a/"}, RecipeError, r"sources must be a list of sources, got 'a/' \(r.yaml"),
        (
            {"kind": "concat", "sources": [{"kind": "scenes", "n": 1}, {"kind": "folderr", "path": "a"}]},
            PluginError,
            r"no source named 'folderr'\. Did you mean 'folder'\?",
        ),
        (
            {"kind": "concat", "sources": [{"kind": "scenes", "m": 1}]},
            RecipeError,
            r"no field 'm'.*\(r.yaml, source concat, sources\[0\], source scenes\)",
        ),
        (
            {"kind": "mix", "sources": [{"source": {"kind": "scenes", "n": 1}, "weight": 0}]},
            RecipeError,
            r"weight must be more than 0.0, got 0 \(r.yaml, source mix, sources\[0\]\)",
        ),
        (
            {"kind": "mix", "sources": [{"source": {"kind": "scenes", "n": 1}, "wieght": 2}]},
            RecipeError,
            r"no field 'wieght'\. Did you mean 'weight'\?",
        ),
        (
            {"kind": "mix", "sources": [{"source": {"kind": "scenes", "n": 1}}], "until": "never"},
            RecipeError,
            r"until: .*'first' or 'last', got 'never'",
        ),
        ({"kind": "concat", "sources": ["nowhere/"]}, SourceError, "no such file or folder: nowhere/"),
    ],
)  # fmt: skip
def test_errors_name_the_part(source: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Recipe.from_dict({"source": source}, where="r.yaml")


def test_a_missing_part_is_found_before_any_work(tmp_path: Path) -> None:
    recipe = {"source": {"kind": "concat", "sources": [{"kind": "scenes", "n": 1}, {"kind": "folder", "path": "gone"}]}}
    with pytest.raises(SourceError, match=r"no such folder: gone \(sources\[1\]\)"):
        Pipeline(Recipe.from_dict(recipe)).write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_are_sources_without_stages() -> None:
    with pytest.raises(RecipeError, match="without stages: write it first"):
        mm.concat(mm.scenes(2).render("scenes"))


def test_records_say_which_part_in_the_shards(photos: Path, tmp_path: Path) -> None:
    mm.concat(photos, photos).write(tmp_path / "out")
    found = records(tmp_path / "out")
    assert len(found) == 10
    assert Counter(record["source"]["part"] for record in found.values()) == {"0": 5, "1": 5}
