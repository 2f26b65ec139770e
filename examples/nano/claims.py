"""What a caption claims, token by token, as targets for `fact_heads`.

At its end a caption has said everything. A text tower that is judged there alone takes long to find out which word
made "left of" true of which noun; judged also where a claim has just been made, it finds out at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from examples.nano.fact_heads import SIDES, FactTargets, look_of
from mmsynth_captioners.facts.english import OPPOSITES
from mmsynth_renderers.scenes import judge
from mmsynth_renderers.scenes.vocabulary import MAX_GROUPS

_NEVER = 10_000


@dataclass
class Claims:
    """Of n captions: everything claimed by the end, and at which token each side of a group becomes known [n, 3, 4]."""

    by_end: FactTargets
    known_at: Tensor

    @classmethod
    def of(cls, captions: Sequence[str], tokenizer: Any) -> "Claims":
        """`tokenizer` is a fast one of transformers. A caption that names a group without its colour claims nothing."""
        targets = FactTargets.nothing(len(captions))
        known_at = torch.full((len(captions), MAX_GROUPS, len(SIDES)), _NEVER, dtype=torch.int16)
        offsets = tokenizer(list(captions), return_offsets_mapping=True)["offset_mapping"]
        for n, caption in enumerate(captions):
            said = judge.read(caption)
            groups = _groups(said)
            if groups is None:
                continue
            for g, mention in enumerate(dict.fromkeys(groups)):
                targets.groups[n, g] = torch.tensor(look_of(mention.kind, mention.colour, mention.count))
            numbers = {mention: g for g, mention in enumerate(dict.fromkeys(groups))}
            for placed in said.relations:
                ends = (
                    (placed.subject, placed.relation, placed.end),
                    (placed.object, OPPOSITES[placed.relation], None),
                )
                for mention_number, side, end in ends:
                    group = numbers[groups[mention_number]]
                    at = _token_at(offsets[n], (end or said.ends[mention_number]) - 1)
                    known_at[n, group, SIDES.index(side)] = min(known_at[n, group, SIDES.index(side)], at)
        targets.sides[:] = _sides(known_at, _NEVER - 1)
        return cls(targets, known_at)

    def __len__(self) -> int:
        return len(self.known_at)

    def moments(self, chosen: Tensor, each: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`each` moments in each chosen caption that relates anything, when a side has just become known.

        Which of the chosen, at which token, and of the group in question its look [·, 3] and its sides so far [·, 4].
        """
        known_at = self.known_at[chosen].flatten(1).long()
        relating = (known_at < _NEVER).any(1).nonzero().squeeze(1)
        which = relating.repeat_interleave(each)
        if not len(which):
            return which, which, self.by_end.groups[which, 0].long(), self.by_end.sides[which, 0].long()
        drawn = torch.multinomial((known_at[relating] < _NEVER).float(), each, replacement=True, generator=generator)
        at = known_at[relating].gather(1, drawn).flatten()
        group = (drawn // len(SIDES)).flatten()
        sides = _sides(self.known_at[chosen[which], group].long(), at[:, None])
        return which, at, self.by_end.groups[chosen[which], group].long(), sides


def _groups(said: judge.Said) -> list[judge.Mention] | None:
    """For every mention the first one of the same group; None if it cannot be told."""
    first: list[judge.Mention] = []
    groups = []
    for mention in said.mentions:
        same = (other for other in first if other.kind == mention.kind and mention.colour in {"", other.colour})
        group = mention if mention.count else next(same, None)
        if group is None or not group.colour:
            return None
        if mention.count:
            first.append(mention)
        groups.append(group)
    return groups if 0 < len(first) <= MAX_GROUPS else None


def _sides(known_at: Tensor, at: Tensor | int) -> Tensor:
    """1 for the sides known by then, 0 for their opposites, -1 for the rest."""
    known = known_at <= at
    opposite = known[..., [SIDES.index(OPPOSITES[side]) for side in SIDES]]
    return torch.where(known, 1, torch.where(opposite, 0, -1)).to(torch.int8)


def _token_at(offsets: Sequence[tuple[int, int]], character: int) -> int:
    return next(i for i, (start, end) in enumerate(offsets) if start <= character < end)
