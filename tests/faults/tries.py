"""Tries: each with a seed of its own, and written down as it ends, so that a long campaign can stop and go on."""

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.trial import Figure

#: one try: gives what went wrong, "" where nothing did, and may count what there is to tell besides
Try = Callable[[random.Random, "Counter[str]"], str]


@dataclass(frozen=True)
class Tries:
    """Makes tries. With a journal, those that are in it are not made again: their outcome is known."""

    seed: int = 0
    journal: Path | None = None

    def figure(self, sort: str, what: str, times: int, one: Try) -> Figure:
        """What came of `times` tries. The n-th is the same however many there are."""
        known = self._known()
        wrong, told = [], Counter[str]()
        for number in range(times):
            name = f"{self.seed} {sort}, {what} {number}"
            if name in known:
                outcome, about = known[name]
            else:
                counted = Counter[str]()
                outcome, about = one(random.Random(name), counted), dict(counted)
                self._note(name, outcome, about)
            wrong += [outcome] if outcome else []
            told.update(about)
        note = ", ".join(f"{n} {words}" for words, n in sorted(told.items()))
        return Figure(sort, what, times, times - len(wrong), note, wrong)

    def _known(self) -> dict[str, tuple[str, dict[str, int]]]:
        if self.journal is None or not self.journal.exists():
            return {}
        lines = self.journal.read_text("utf-8").splitlines()
        return {entry["try"]: (entry["wrong"], entry["told"]) for entry in map(json.loads, lines)}

    def _note(self, name: str, wrong: str, told: dict[str, int]) -> None:
        if self.journal is not None:
            with self.journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"try": name, "wrong": wrong, "told": told}) + "\n")
