"""Train nano-vlm on shards that mmsynth wrote. Stops and goes on: run it again with the same folder.

    mmsynth run examples/nano/scenes_train.yaml
    python -m examples.nano.train_vlm
    torchrun --nproc-per-node 2 -m examples.nano.train_vlm     # the same on two cores, or two GPUs

First the tower alone learns to see (what stands in each cell of the picture, which the drawer knows), then
transformers' Trainer teaches the whole model to speak.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from examples.nano import vlm_model
from examples.nano.clip_model import schedule
from examples.nano.fact_heads import FactHeads, FactTargets, cells_of
from examples.nano.muon import Muon
from examples.nano.options import training_options
from examples.nano.ranks import Ranks
from examples.nano.scene_pairs import normalised, read_scenes
from examples.nano.vlm_data import PackedScenes, collate, tokenize, turns
from mmsynth.facts import Facts
from mmsynth.models import resolve_dtype

#: of tokens that say how many, where, and yes or no
_DECIDING_WEIGHT = 4.0


def main() -> None:
    parser = training_options(
        "Train nano-vlm.",
        shards=Path("runs/nano/scenes_train"),
        folder=Path("runs/nano/vlm"),
        steps=5000,
        batch=32,
        lr=2e-3,
    )
    parser.add_argument("--tower-steps", type=int, default=1800)
    parser.add_argument("--tower-batch", type=int, default=64, help="scenes a step, over all processes")
    options = parser.parse_args()

    stop_at = time.monotonic() + 60 * options.minutes
    ranks = Ranks.join()
    pixels, records = read_scenes(options.shards, options.limit)
    ranks.say(f"{len(records):,} scenes")
    if ranks.first and not (options.folder / "config.json").exists():
        torch.manual_seed(options.seed)
        rng = np.random.default_rng(options.seed)
        chosen = [records[i] for i in rng.permutation(len(records))[:5000]]
        vlm_model.create(options.folder, texts_of(chosen, options.seed))
    ranks.wait()
    model, processor = vlm_model.load(options.folder)
    TowerTraining(options, model.model.vision_tower, ranks).run(pixels, records, stop_at)
    if time.monotonic() < stop_at:
        rows = PackedScenes(pixels, tokenize(records, processor.tokenizer, options.seed), processor.tokenizer)
        learn_to_speak(options, model, rows, ranks, stop_at)


def texts_of(records: list[dict[str, Any]], seed: int) -> list[str]:
    """Everything said in some records, for the tokenizer."""
    rng = random.Random(seed)
    return [text for record in records for turn in turns(record, rng) for text in turn]


class TowerTraining(nn.Module):
    """The tower learns kind, colour and place of what stands in each cell; `tower.pt` holds where it is."""

    def __init__(self, options: argparse.Namespace, tower: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        torch.manual_seed(options.seed)
        self.options, self.ranks = options, ranks
        self.tower = tower
        self.heads = FactHeads(1, vlm_model.TOWER_WIDTH)
        self.place = nn.Linear(vlm_model.TOWER_WIDTH, 2 * vlm_model.GRID)
        self.to(ranks.device)
        self.optimizer = Muon(self, options.lr, weight_decay=0.05)
        self.step, self.state_file = 0, options.folder / "tower.pt"
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location=ranks.device, weights_only=True)
            self.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def run(self, pixels: torch.Tensor, records: list[dict[str, Any]], stop_at: float) -> None:
        steps = self.options.tower_steps
        if self.step >= steps:
            return
        facts = [Facts.model_validate(record["facts"]) for record in records]
        targets, cells = FactTargets.of(facts), cells_of(facts)
        self.train()
        while self.step < steps and not self.ranks.any(time.monotonic() > stop_at):
            started = time.monotonic()
            loss = self._train_step(pixels, targets, cells)
            if self.step % 20 == 0 or self.step == steps:
                rate = self.options.tower_batch / (time.monotonic() - started)
                self.ranks.say(json.dumps({"tower_step": self.step, "loss": loss, "scenes_per_second": round(rate)}))
                self._save()

    def _train_step(self, pixels: torch.Tensor, targets: FactTargets, cells: torch.Tensor) -> float:
        seed = (self.options.seed * 1_000_003 + self.step) * self.ranks.count + self.ranks.rank
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(pixels), (self.options.tower_batch // self.ranks.count,), generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * schedule(self.step, self.options.tower_steps)
        pictures = normalised(pixels[chosen]).to(self.ranks.device, memory_format=torch.channels_last)
        seen = self.tower(pictures, return_dict=True).last_hidden_state
        of_chosen = targets.of_scenes(chosen, self.ranks.device), cells[chosen].long().to(self.ranks.device)
        loss = self.heads.cell_loss(seen, of_chosen[1], of_chosen[0]) + self._place_loss(seen)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.ranks.average_gradients(self)
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return round(float(loss.detach()), 4)

    def _place_loss(self, seen: torch.Tensor) -> torch.Tensor:
        """Every cell knows its column and row: the decoder reads cells in a line, and has to say what is where."""
        said = self.place(seen.flatten(2).transpose(1, 2)).unflatten(-1, (2, vlm_model.GRID))
        number = torch.arange(vlm_model.GRID**2, device=seen.device)
        truth = torch.stack([number % vlm_model.GRID, number // vlm_model.GRID], dim=1).expand(len(seen), -1, -1)
        return functional.cross_entropy(said.flatten(0, 2), truth.flatten())

    def _save(self) -> None:
        state = {"model": self.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        self.ranks.save(state, self.state_file)


class StopAt(transformers.TrainerCallback):
    """Ends a run at a time, with a checkpoint to go on from."""

    def __init__(self, stop_at: float) -> None:
        self._stop_at = stop_at

    def on_step_end(self, _args: Any, _state: Any, control: Any, **_: Any) -> None:
        if time.monotonic() > self._stop_at:
            control.should_save = control.should_training_stop = True


class WeighingTrainer(transformers.Trainer):
    """Some tokens count more than others."""

    def __init__(self, *arguments: Any, weights: torch.Tensor, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._weights = weights

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        labels = inputs.pop("labels")[:, 1:].flatten()
        logits = model(**inputs).logits[:, :-1].flatten(0, 1)
        return functional.cross_entropy(logits, labels, self._weights.to(logits.device))


def learn_to_speak(options: argparse.Namespace, model: Any, rows: PackedScenes, ranks: Ranks, stop_at: float) -> None:
    """The whole model, through transformers' Trainer, which keeps its checkpoints in `trainer/`."""
    state = options.folder / "trainer"
    state.mkdir(parents=True, exist_ok=True)  # each process looks into it, before the first has written there
    arguments = transformers.TrainingArguments(
        output_dir=str(state),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch // ranks.count,
        learning_rate=options.lr,
        lr_scheduler_type="cosine",
        warmup_steps=100,
        max_grad_norm=1.0,
        logging_steps=50,
        save_steps=250,
        save_total_limit=1,
        seed=options.seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=resolve_dtype("auto", ranks.device) == torch.bfloat16,
        ddp_backend="gloo" if ranks.count > 1 and not torch.cuda.is_available() else None,
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
    )
    weights = torch.ones(model.config.text_config.vocab_size)
    weights[rows.deciding] = _DECIDING_WEIGHT
    trainer = WeighingTrainer(
        model,
        arguments,
        data_collator=collate,
        train_dataset=rows,
        callbacks=[StopAt(stop_at)],
        optimizers=(Muon(model, options.lr, weight_decay=0.05), None),
        weights=weights,
    )
    trainer.train(resume_from_checkpoint=transformers.trainer_utils.get_last_checkpoint(str(state)))
    if ranks.first:
        model.config.use_cache = True  # the trainer turns it off, and its word would go into the folder
        model.half().save_pretrained(options.folder)


if __name__ == "__main__":
    main()
