"""The nano models' training scripts: they run on shards of ours, stop and go on, and teach what they say they teach."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from examples.nano import clip_model, train_clip, vlm_data, vlm_model
from examples.nano.claims import Claims
from examples.nano.fact_heads import SIDES, FactHeads, FactTargets, cells_of
from examples.nano.scene_pairs import normalised, read_pairs, read_scenes
from examples.nano.train_vlm import texts_of


def train(monkeypatch: pytest.MonkeyPatch, shards: Path, folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """The schedule is of four steps, and the first `steps` of them are done."""
    options = {"--shards": shards, "--heldout": shards, "--folder": folder, "--steps": 4, "--batch": 8}
    monkeypatch.setattr(sys, "argv", ["train_clip", *(str(part) for pair in options.items() for part in pair)])
    done = train_clip.Training._train_step
    with monkeypatch.context() as patch:
        patch.setattr(train_clip.Training, "_train_step", lambda self: stop_after(steps, self, done))
        train_clip.main()
    return dict(torch.load(folder / "training.pt", weights_only=True)["model"])


def stop_after(
    steps: int, training: train_clip.Training, step: Callable[[train_clip.Training], dict[str, float]]
) -> dict[str, float]:
    losses = step(training)
    if training.step == steps:
        training.options.minutes = training.options.steps = steps
    return dict(losses)


def test_clip_training_goes_on_as_if_it_had_never_stopped(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train(monkeypatch, shards, tmp_path / "straight", 4)
    train(monkeypatch, shards, tmp_path / "stopped", 2)
    stopped = train(monkeypatch, shards, tmp_path / "stopped", 4)
    assert all(torch.equal(value, stopped[name]) for name, value in straight.items())


def test_a_part_of_a_packed_row_is_read_as_if_it_were_alone(shards: Path, tmp_path: Path) -> None:
    pixels, records = read_scenes(shards, 4)
    vlm_model.create(tmp_path, texts_of(records, 0))
    model, processor = vlm_model.load(tmp_path)
    model.eval()
    scenes = vlm_data.tokenize(records, processor.tokenizer, 0)
    batch = vlm_data.collate([vlm_data.PackedScenes(pixels, scenes, processor.tokenizer)[i] for i in range(4)])
    with torch.no_grad():
        packed = model(**{name: value for name, value in batch.items() if name != "labels"}).logits
    prefix = vlm_model.GRID**2 + 1
    for row in range(4):
        starts = [i for i in range(prefix, len(batch["input_ids"][row])) if batch["position_ids"][row, i] == prefix]
        first, second = starts[1], starts[2]
        alone = torch.cat([batch["input_ids"][row, :prefix], batch["input_ids"][row, first:second]])[None]
        with torch.no_grad():
            expected = model(input_ids=alone, pixel_values=batch["pixel_values"][row : row + 1]).logits
        torch.testing.assert_close(packed[row, first:second], expected[0, prefix:], atol=1e-4, rtol=1e-4)


def test_only_answers_are_learned(shards: Path, tmp_path: Path) -> None:
    pixels, records = read_scenes(shards, 2)
    vlm_model.create(tmp_path, texts_of(records, 0))
    tokenizer = vlm_model.load(tmp_path)[1].tokenizer
    scenes = vlm_data.tokenize(records, tokenizer, 0)
    row = vlm_data.PackedScenes(pixels, scenes, tokenizer)[0]
    learned = tokenizer.decode([token for token in row["labels"] if token >= 0]).split(vlm_model.END)
    answers = {pair["answer"] for pair in records[0]["qa"]} | {entry["text"] for entry in records[0]["captions"]}
    assert len(set(learned) & answers) >= 4
    assert not any("?" in text or "Describe" in text for text in learned)


def test_facts_become_targets_that_the_heads_can_be_judged_by(shards: Path) -> None:
    pairs = read_pairs(shards)
    targets, cells = FactTargets.of(pairs.facts), cells_of(pairs.facts)
    assert normalised(pairs.pixels).abs().max() <= 1
    for n, facts in enumerate(pairs.facts):
        assert (targets.groups[n, :, 0] >= 0).sum() == len(facts.objects)
        # two objects may have their middles in one cell, no more
        assert 0 < (cells[n] >= 0).sum() <= sum(group.count for group in facts.objects)
        for stated in facts.relations:
            assert targets.sides[n, stated.subject, SIDES.index(stated.relation)] == 1
    scenes = targets.of_scenes(torch.arange(24), "cpu")
    heads = FactHeads(16, 12)
    losses = (
        heads.embedding_loss(torch.randn(24, 16), scenes),
        heads.cell_loss(torch.randn(24, 12, 8, 8), cells.long(), scenes),
    )
    assert all(torch.isfinite(loss) and loss > 0 for loss in losses)


def test_a_caption_claims_what_its_scene_holds_from_the_word_on_that_says_so(shards: Path, tmp_path: Path) -> None:
    pairs = read_pairs(shards)
    clip_model.create_if_missing(tmp_path, pairs, 0)
    tokenizer = clip_model.load(tmp_path)[1].tokenizer
    claims, facts = Claims.of([own[1] for own in pairs.captions], tokenizer), FactTargets.of(pairs.facts)
    for n in range(len(pairs)):
        # the captions name the groups in an order of their own
        assert sorted(claims.by_end.groups[n].tolist()) == sorted(facts.groups[n].tolist())
        for look, sides in zip(claims.by_end.groups[n].tolist(), claims.by_end.sides[n], strict=True):
            known = facts.sides[n, facts.groups[n].tolist().index(look)]
            assert all(said in {-1, there} for said, there in zip(sides.tolist(), known.tolist(), strict=True))
    one = Claims.of(["A small red star to the left of two large blue cups, all on a black background."], tokenizer)
    which, at, looks, sides = one.moments(torch.tensor([0]), 50, torch.Generator().manual_seed(0))
    tokens = tokenizer.tokenize("A small red star to the left of two large blue cups")
    # before the first token stands <start>
    moments = {
        (tokens[a - 1], look[2], *side) for a, look, side in zip(at, looks.tolist(), sides.tolist(), strict=True)
    }
    assert which.unique().tolist() == [0]
    assert {(count, *side) for _, count, *side in moments} == {(0, 1, 0, -1, -1), (1, 0, 1, -1, -1)}
    assert len({a for a in at.tolist()}) == 2
    assert at.max() == len(tokens)
