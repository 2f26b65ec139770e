"""Stale numbers: scores and arrays of a caption or an image that a stage has replaced are removed.

Which they are, the steps in the record say: filters declare what they judge (`Filter.judges`).
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from mmsynth.sample import Sample


def without_stale(sample: Sample, before: Sample | None, seen: Sequence[Sample], given: Collection[str]) -> Sample:
    """`sample` without the numbers that judged what it no longer has.

    `before` is the sample that the stage got, `seen` all that it got together, and `given` what it declares itself.
    """
    if before is None or (sample.caption == before.caption and sample.image is before.image):
        return sample
    scores = sample.record.get("scores")
    # a stage of groups may give a sample what is another's, with that one's scores
    owner = next((one for one in seen if scores and one.record.get("scores") is scores), before)
    changed = {"caption"} if owner.caption is not None and sample.caption != owner.caption else set()
    if owner.image is not None and sample.image is not owner.image:
        changed.add("image")
    if changed:
        sample = _without_scores(sample, changed, given)
    owner = next((one for one in seen if sample.arrays and one.arrays is sample.arrays), before)
    if owner.image is not None and sample.image is not owner.image:
        changed.add("image")
    stale = _judging(sample, "arrays", changed) & sample.arrays.keys() - given
    if stale:
        sample = replace(sample, arrays={name: one for name, one in sample.arrays.items() if name not in stale})
    return sample


def _without_scores(sample: Sample, changed: set[str], given: Collection[str]) -> Sample:
    entries = sample.record.get("captions", ())
    # those that captions have for themselves judge caption and image, whatever run they are of
    own = {name for entry in entries for name in entry.get("scores", ())}
    stale = (_judging(sample, "scores", changed) | own) - set(given)
    scores = sample.record.get("scores", {})
    if stale & scores.keys():
        sample = sample.with_record(scores={name: value for name, value in scores.items() if name not in stale})
    if "image" in changed and own & stale:
        sample = sample.with_record(captions=[_without(entry, stale) for entry in entries])
    return sample


def _judging(sample: Sample, what: str, changed: set[str]) -> set[str]:
    """Names of the scores or arrays that judge something that has changed."""
    steps = sample.record.get("steps", ())
    found: set[str] = set()
    for step in steps:
        judged = set(step.get("judges", ()))
        if what == "arrays" and "image" in judged:
            judged = {"image"}  # what a filter keeps of image and caption is of the image
        if judged & changed:
            found.update(step.get(what, ()))
    return found


def _without(entry: dict[str, Any], stale: set[str]) -> dict[str, Any]:
    if "scores" not in entry:
        return entry
    left = {name: value for name, value in entry["scores"].items() if name not in stale}
    rest = {name: value for name, value in entry.items() if name != "scores"}
    return {**rest, "scores": left} if left else rest
