"""What nano CLIP is told besides which caption belongs to which picture: the facts of the scene, for training only.

Contrast alone says very little per scene, and a small tower on a CPU needs hours to find out from it what a star is.
The drawer knows, so these heads ask: of every cell of the picture, which kind and colour stands there; of the embedding
of a picture, and of its caption alike, what there is, how many, and which stands on which side of another. One set of
heads for both towers draws the two embeddings together, and the heads are linear, as a cosine is: what they can read
off, a cosine can weigh. Nothing of this ships: the model is a plain CLIP.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmsynth.facts import Facts
from mmsynth_captioners.facts.reading import relations
from mmsynth_renderers.scenes.shapes import KINDS
from mmsynth_renderers.scenes.vocabulary import COLOURS, MAX_COUNT, MAX_GROUPS, OPPOSITES

GRID = 8
_COLOURS, SIDES = tuple(COLOURS), tuple(OPPOSITES)
_NOTHING = -1


@dataclass
class FactTargets:
    """Facts of n scenes, or claims of n captions, as whole numbers; -1 where there is nothing, or nothing known.

    `groups` [n, 3, (kind, colour, count - 1)]; `sides` [n, 3, 4]: whether a group stands left of, right of, above,
    below another.
    """

    groups: Tensor
    sides: Tensor

    @classmethod
    def of(cls, scenes: Sequence[Facts]) -> "FactTargets":
        targets = cls.nothing(len(scenes))
        for n, facts in enumerate(scenes):
            for g, group in enumerate(facts.objects):
                targets.groups[n, g] = torch.tensor(look_of(group.kind, group.colour, group.count))
            held = {(subject, relation) for subject, relation, _ in relations(facts)}
            for subject, relation in held:
                targets.sides[n, subject, SIDES.index(relation)] = 1
                if (subject, OPPOSITES[relation]) not in held:
                    targets.sides[n, subject, SIDES.index(OPPOSITES[relation])] = 0
        return targets

    @classmethod
    def nothing(cls, n: int) -> "FactTargets":
        shape = (n, MAX_GROUPS)
        return cls(
            torch.full((*shape, 3), _NOTHING, dtype=torch.int8),
            torch.full((*shape, len(SIDES)), _NOTHING, dtype=torch.int8),
        )

    def of_scenes(self, chosen: Tensor, device: str) -> "FactTargets":
        return FactTargets(self.groups[chosen].long().to(device), self.sides[chosen].long().to(device))


def look_of(kind: str, colour: str, count: int) -> tuple[int, int, int]:
    """A row of `FactTargets.groups`."""
    return KINDS.index(kind), _COLOURS.index(colour), count - 1


def cells_of(scenes: Sequence[Facts]) -> Tensor:
    """int8 [n, 8·8]: the number of the group that has the middle of an object in that cell of the picture, else -1."""
    cells = torch.full((len(scenes), GRID * GRID), _NOTHING, dtype=torch.int8)
    for n, facts in enumerate(scenes):
        for g, group in enumerate(facts.objects):
            for left, top, right, bottom in group.boxes:
                cells[n, int((top + bottom) / 2 * GRID) * GRID + int((left + right) / 2 * GRID)] = g
    return cells


class FactHeads(nn.Module):
    """Questions to embeddings [batch, `width`], and to the picture's cells [batch, `cell_width`, 8, 8]."""

    def __init__(self, width: int, cell_width: int) -> None:
        super().__init__()
        self._looks = nn.Linear(width, len(KINDS) * len(_COLOURS))
        self._count = _LinearByLook(width, MAX_COUNT)
        self._side = _LinearByLook(width, len(SIDES))
        # one more than there are: an empty cell
        self._cell_kind = nn.Linear(cell_width, len(KINDS) + 1)
        self._cell_colour = nn.Linear(cell_width, len(_COLOURS) + 1)

    def embedding_loss(self, embeddings: Tensor, targets: FactTargets) -> Tensor:
        """For embeddings of length one: which looks there are, how many of each, on which side."""
        embeddings = embeddings * math.sqrt(embeddings.shape[1])
        scene, group = (targets.groups[:, :, 0] >= 0).nonzero(as_tuple=True)
        kind, colour, count = targets.groups[scene, group].unbind(-1)
        looks = torch.zeros(len(embeddings), self._looks.out_features, device=embeddings.device)
        looks[scene, kind * len(_COLOURS) + colour] = 1
        rarity = torch.tensor(10.0, device=looks.device)
        there = functional.binary_cross_entropy_with_logits(self._looks(embeddings), looks, pos_weight=rarity)
        how_many = functional.cross_entropy(self._count(embeddings, scene, kind, colour), count)
        where = self._side_loss(embeddings, scene, kind, colour, targets.sides[scene, group])
        return 4 * there + how_many + where

    def side_loss(self, embeddings: Tensor, looks: Tensor, sides: Tensor) -> Tensor:
        """For one group of each embedding: its look [n, 3] and its sides [n, 4]."""
        kind, colour, _ = looks.unbind(-1)
        scene = torch.arange(len(embeddings), device=embeddings.device)
        return self._side_loss(embeddings * math.sqrt(embeddings.shape[1]), scene, kind, colour, sides)

    def _side_loss(self, embeddings: Tensor, scene: Tensor, kind: Tensor, colour: Tensor, sides: Tensor) -> Tensor:
        known = sides >= 0
        said = self._side(embeddings, scene, kind, colour)[known]
        # no relation in the whole batch: nothing to learn, and no mean of nothing
        return functional.binary_cross_entropy_with_logits(said, sides[known].float(), reduction="sum") / max(
            1, len(said)
        )

    def cell_loss(self, seen: Tensor, cells: Tensor, targets: FactTargets) -> Tensor:
        """What stands in each cell (`cells_of`), by the picture's map `seen`. Most are empty, and count for a tenth."""
        empty = targets.groups.new_full((len(cells), 1), _NOTHING)
        weight = torch.where(cells >= 0, 1.0, 0.1)
        loss = seen.new_zeros(())
        for head, attribute in ((self._cell_kind, 0), (self._cell_colour, 1)):
            truth = torch.cat([empty, targets.groups[:, :, attribute]], dim=1).gather(1, cells + 1) + 1
            said = head(seen.flatten(2).transpose(1, 2)).transpose(1, 2)
            loss = loss + (functional.cross_entropy(said, truth, reduction="none") * weight).sum() / weight.sum()
        return loss


class _LinearByLook(nn.Module):
    """Asks an embedding about the group of one kind and colour: a linear answer for each of the two, added."""

    def __init__(self, width: int, answers: int) -> None:
        super().__init__()
        self._kind = nn.Linear(width, len(KINDS) * answers)
        self._colour = nn.Linear(width, len(_COLOURS) * answers)
        self._answers = answers

    def forward(self, embeddings: Tensor, scene: Tensor, kind: Tensor, colour: Tensor) -> Tensor:
        """[asked, answers], for each `scene` (row of the embeddings) that is asked about a look."""
        by_kind = self._kind(embeddings).unflatten(1, (len(KINDS), self._answers))
        by_colour = self._colour(embeddings).unflatten(1, (len(_COLOURS), self._answers))
        return by_kind[scene, kind] + by_colour[scene, colour]
