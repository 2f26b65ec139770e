"""Precision and recall at every threshold, from scores of a data set's pairs and of mismatched pairs.

The pairs of a data set are a mixture: most match, a share ε does not. The scores of mismatched pairs are known, because
we can make such pairs: the same images with captions of other samples. Let D(t) be the share of pairs that score at
least t, and N(t) that of mismatched pairs:

    precision(t) = 1 − ε N(t) / D(t)        recall(t) = (D(t) − ε N(t)) / (1 − ε)

ε is the largest share of mismatched pairs that the low scores leave room for (mixture proportion estimation, Blanchard
et al. 2010). It is an upper bound, so the precision is a lower bound. The bound is tight if matching pairs hardly ever
score as low as mismatched ones mostly do, and too large if the scores overlap: for normal scores 3, 2 and 1 standard
deviations apart it gives 0.10, 0.11 and 0.24, and the truth is 0.10. Fitting a normal curve to the matching pairs gives
0.10, 0.10 and 0.09 there. But if the matching pairs have a longer lower tail, the fit gives 0.17, 0.24 and 0.41, and
the bound 0.12, 0.18 and 0.35. So this module assumes nothing about the matching pairs.

ε is estimated on one half of the pairs and used on the other, both ways round (cross-fitting). Intervals come from the
bootstrap. The method assumes that the data's own mismatches score like permuted captions: captions with one wrong
detail go unnoticed, and count as matching. Works on numbers only; knows nothing of models or files.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_THRESHOLDS = 401
#: the fewest pairs that give a meaningful share
_FEWEST = 20
#: the low end of the mismatched scores that ε is read from, as shares of them
_LOW_END = np.linspace(0.1, 0.9, 33)
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True)
class Calibration:
    """Curves over `thresholds`. Each `…_interval` is [2, n] and holds 95 % of the bootstrap."""

    thresholds: Floats
    precision: Floats
    precision_interval: Floats
    recall: Floats
    recall_interval: Floats
    #: share of the pairs that score at least the threshold
    kept: Floats
    #: share of mismatched pairs in the data, an upper estimate: too large if the scores overlap
    noise: float
    noise_interval: tuple[float, float]
    #: how often a pair scores above a mismatched pair; the data's own mismatches count as pairs
    auc: float
    pairs: int
    mismatched: int
    #: kind of almost-true caption → AUC against it
    hard_auc: dict[str, float] = field(default_factory=dict)

    def threshold_for(self, precision: float) -> float | None:
        """The lowest threshold that gives the precision at it and at all above it, or None if there is none.

        If several thresholds keep the same pairs, the highest. Ignores thresholds that fewer than 20 pairs pass.
        """
        judged = int((self.kept * self.pairs >= _FEWEST).sum())
        short = self.precision[:judged] < precision
        # go down from the top while the precision holds; a lower stretch that holds again does not count
        lowest = int(np.flatnonzero(short).max(initial=-1)) + 1
        if lowest >= judged:
            return None
        return float(self.thresholds[np.flatnonzero(self.kept == self.kept[lowest])[-1]])

    def at(self, threshold: float) -> dict[str, Any]:
        """Precision, recall and share kept at the grid's nearest threshold, with intervals."""
        i = int(np.abs(self.thresholds - threshold).argmin())
        return {
            "threshold": float(self.thresholds[i]),
            "precision": float(self.precision[i]),
            "precision_interval": self.precision_interval[:, i].tolist(),
            "recall": float(self.recall[i]),
            "recall_interval": self.recall_interval[:, i].tolist(),
            "kept": float(self.kept[i]),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        curves = ("thresholds", "precision", "precision_interval", "recall", "recall_interval", "kept")
        rest = ("noise", "noise_interval", "auc", "hard_auc", "pairs", "mismatched")
        return {
            **{name: getattr(self, name) for name in rest},
            **{name: np.round(getattr(self, name), 6).tolist() for name in curves},
        }


def calibrated(
    pairs: Floats, mismatched: Floats, hard: dict[str, Floats] | None = None, resamples: int = 200, seed: int = 0
) -> Calibration:
    """Calibrate from the scores of pairs and of mismatched pairs. Raises ValueError for fewer than 20 of either."""
    if min(len(pairs), len(mismatched)) < _FEWEST:
        raise ValueError(
            f"{len(pairs)} pairs and {len(mismatched)} mismatched ones are too few: {_FEWEST} at the least"
        )
    rng = np.random.default_rng(seed)
    lowest, highest = (float(f(np.concatenate([pairs, mismatched]))) for f in (np.min, np.max))
    thresholds = np.linspace(lowest, highest, _THRESHOLDS)
    noise, precision, recall, kept = _crossfitted(pairs, mismatched, thresholds, rng)
    drawn = [_crossfitted(*_drawn_again(pairs, mismatched, rng), thresholds, rng) for _ in range(resamples)]
    noises, precisions, recalls, shares = (np.array([draw[part] for draw in drawn]) for part in range(4))
    precisions = _as_it_turns_out(precisions, shares * len(pairs), rng)
    low, high = np.percentile(noises, _INTERVAL)
    return Calibration(
        thresholds,
        precision,
        np.percentile(precisions, _INTERVAL, axis=0),
        recall,
        np.percentile(recalls, _INTERVAL, axis=0),
        kept,
        noise,
        (float(low), float(high)),
        auc(pairs, mismatched),
        len(pairs),
        len(mismatched),
        {kind: auc(pairs, scores) for kind, scores in (hard or {}).items()},
    )


def _drawn_again(pairs: Floats, mismatched: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Resample both sets, each with one score of the other set added.

    Without the added score, pairs with no visible mismatch would be reported to have none at all, with certainty. With
    it, the interval reaches up to 3 of n (the rule of three). The same holds if no mismatched pair scored that high.
    """
    pairs_and_one = np.append(pairs, rng.choice(mismatched))
    mismatched_and_one = np.append(mismatched, rng.choice(pairs))
    return rng.choice(pairs_and_one, len(pairs)), rng.choice(mismatched_and_one, len(mismatched))


def _as_it_turns_out(precision: Floats, kept: Floats, rng: np.random.Generator) -> Floats:
    """Precisions after drawing a whole number of wrong pairs around the expected one, for `kept` pairs."""
    wrong = rng.poisson((1 - precision) * kept)
    return 1 - np.divide(wrong, kept, out=np.zeros_like(precision), where=kept > 0).clip(0, 1)


def _crossfitted(
    pairs: Floats, mismatched: Floats, thresholds: Floats, rng: np.random.Generator
) -> tuple[float, Floats, Floats, Floats]:
    """Noise, precision, recall and share kept: the mean over both halves, each with the noise of the other half."""
    halves = [np.array_split(rng.permutation(scores), 2) for scores in (pairs, mismatched)]
    noises = [noise_of(halves[0][i], halves[1][i]) for i in range(2)]
    curves = [
        _curves(noise, *(at_least(half[i], thresholds) for half in halves)) for i, noise in enumerate(noises[::-1])
    ]
    precision, recall = (np.mean([curve[part] for curve in curves], axis=0) for part in range(2))
    return float(np.mean(noises)), precision, recall, at_least(pairs, thresholds)


def _curves(noise: float, kept: Floats, wrong: Floats) -> tuple[Floats, Floats]:
    false = noise * wrong
    # if nothing is kept, nothing is wrong
    precision = 1 - np.divide(false, kept, out=np.zeros_like(kept), where=kept > 0)
    recall = (kept - false) / max(1e-9, 1 - noise)
    return precision.clip(0, 1), recall.clip(0, 1)


def noise_of(pairs: Floats, mismatched: Floats) -> float:
    """The share of mismatched pairs among `pairs`: the least ratio of the two cumulative shares, over the low scores.

    Twice its standard error is added to each ratio, or the rare scores at the very low end would decide. All ratios
    within three errors of the least are averaged, and surer ones weigh more. Errors assume one more pair than was
    counted: that none of 100 pairs scores so low does not prove that none ever does.
    """
    bounds = np.quantile(mismatched, _LOW_END)
    # inclusive, because many scores may equal the bound if a score has few values
    low, wrong = (np.searchsorted(np.sort(scores), bounds, side="right") for scores in (pairs, mismatched))
    in_proportion = len(mismatched) / (len(pairs) * wrong)
    ratio = low * in_proportion
    relative = np.sqrt(1 / (low + 1) + 1 / wrong)
    error = (low + 1) * in_proportion * relative
    least = int((ratio + 2 * error).argmin())
    alike = ratio <= ratio[least] + 3 * error[least]
    return float(np.average(ratio[alike], weights=1 / relative[alike] ** 2).clip(0, 1))


def at_least(scores: Floats, thresholds: Floats) -> Floats:
    """For each threshold, the share of `scores` at or above it."""
    return 1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)


def auc(higher: Floats, lower: Floats) -> float:
    """How often one of `higher` scores above one of `lower`; a tie counts half."""
    ordered = np.sort(lower)
    below = np.searchsorted(ordered, higher, side="left") + np.searchsorted(ordered, higher, side="right")
    return float(below.mean() / (2 * len(lower)))
