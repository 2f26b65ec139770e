"""Sample: one image-text example. Dropped and Failed: a stage's results for samples that do not go on."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from mmsynth.errors import SampleError
from mmsynth.image import Image

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: the record: captions, qa, messages, preference, facts, scores, source, steps, synthetic, and the fields of the
#: input's own JSON; docs/record.md describes every field, docs/record.schema.json is the schema
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image-text example. Frozen: the `with_…` methods return a changed copy.

    - `key`: unique in a run, stable, `[0-9A-Za-z_-]+`
    - `image`: the main picture, in its original encoded bytes; None before a renderer has drawn it
    - `caption`: the text that training reads; for text-to-image, the prompt until a captioner writes another
    - `record`: everything else, as JSON values; never change it in place
    - `members`: other members that the sample had in its tar, extension → bytes; written back unchanged
    - `arrays`: name → array, for numbers too many for the record; written beside the shard as `00000_<name>.npy`, one
      row for each kept sample (`with_array`)
    - `images`: further pictures by name, such as `before`, `rejected`, `page2`, `frame03`; in the tar `key.before.jpg`
    """

    key: str
    image: Image | None = None
    caption: str | None = None
    record: Record = field(default_factory=dict)
    members: Mapping[str, bytes] = field(default_factory=dict)
    arrays: Mapping[str, "npt.NDArray[np.generic]"] = field(default_factory=dict)
    images: Mapping[str, Image] = field(default_factory=dict)

    def with_caption(self, text: str, origin: str = "synthetic", **about: Any) -> "Sample":
        """A copy with the caption `text`. Earlier captions are kept in `record["captions"]`.

        `origin` is "original" (came with the image), "prompt" (the image was drawn from it) or "synthetic".
        `about` goes into the entry: model, prompt, seed, style, … (None values are left out).
        """
        entry = {"text": text, "origin": origin} | {k: v for k, v in about.items() if v is not None}
        earlier = list(self.record.get("captions", ()))
        if self.caption is not None and all(kept.get("text") != self.caption for kept in earlier):
            earlier.append({"text": self.caption, "origin": "original"})
        return replace(self, caption=text, record={**self.record, "captions": [*earlier, entry]})

    def with_image(self, image: Image, name: str = "") -> "Sample":
        """A copy whose picture `name` is `image`; the main picture's name is ""."""
        if not name:
            return replace(self, image=image)
        check_picture_name(name, self.images)
        return replace(self, images={**self.images, name: image})

    def picture(self, name: str = "") -> Image | None:
        """The picture called `name`, or None; the main picture's name is ""."""
        return self.images.get(name) if name else self.image

    def required_image(self, name: str = "") -> Image:
        """The picture called `name`. Raises SampleError(`no_image`) if the sample has none."""
        image = self.picture(name)
        if image is None:
            raise SampleError("no_image", f"{self.key} has no image{f' called {name!r}' if name else ''}")
        return image

    @property
    def text(self) -> str | None:
        """The caption, or None if it is missing or blank."""
        return self.caption if self.caption and not self.caption.isspace() else None

    def with_messages(self, messages: Iterable[Mapping[str, Any]]) -> "Sample":
        """A copy with `messages` as its conversation, `record["messages"]`, in the form that chat templates read.

        Each is `{"role": …, "content": [{"type": "image", "image": name}, {"type": "text", "text": …}]}`. The main
        picture's name is "".
        """
        return self.with_record(messages=[dict(message) for message in messages])

    def with_preference(
        self,
        prompt: Iterable[Mapping[str, Any]],
        chosen: Iterable[Mapping[str, Any]],
        rejected: Iterable[Mapping[str, Any]],
        **about: Any,
    ) -> "Sample":
        """A copy with `record["preference"]`: a prompt and two answers to it, all as messages, the better one first.

        `about` is stored beside them: `scores={"chosen": …, "rejected": …}`, and `how` the better one was chosen.
        """
        sides = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        return self.with_record(preference={k: [dict(m) for m in messages] for k, messages in sides.items()} | about)

    def with_qa(self, pairs: Iterable[Mapping[str, Any]]) -> "Sample":
        """A copy with question-answer pairs added: each {"question", "answer", "kind", …} as JSON values."""
        return self.with_record(qa=[*self.record.get("qa", ()), *(dict(pair) for pair in pairs)])

    def with_scores(self, **scores: float) -> "Sample":
        """A copy with scores added: name → number. Each becomes the parquet column `score_<name>`."""
        return self.with_record(scores={**self.record.get("scores", {}), **scores})

    def with_array(self, name: str, values: "npt.NDArray[np.generic]") -> "Sample":
        """A copy with an array, such as an embedding or a hash. All samples of a run need the same shape and type."""
        return replace(self, arrays={**self.arrays, name: values})

    def with_record(self, **fields: Any) -> "Sample":
        """A copy whose record has these fields set."""
        # replace() would take three times as long, and every stage calls this for every sample
        record = {**self.record, **fields}
        return Sample(self.key, self.image, self.caption, record, self.members, self.arrays, self.images)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that a stage drops.

    `reason` is a short code that reports count, the same for all samples dropped for that reason:
    `Dropped("short_side_below_min")`. Give `sample` to keep the scores that led to the decision.
    """

    reason: str
    sample: Sample | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A sample that a stage could not process.

    `reason` is a short code that reports count. `detail` describes this sample's problem. Give `sample` to keep the
    scores that it had by then.
    """

    reason: str
    detail: str = ""
    sample: Sample | None = None


#: a stage's result for one sample. A list opens a group: several candidates, crops or turns of one sample
Result: TypeAlias = Sample | Dropped | Failed | list[Sample]

_PICTURE_NAME = re.compile(r"[A-Za-z][0-9A-Za-z_-]*")


def is_picture_name(name: str) -> bool:
    """Whether `name` is valid for a further picture."""
    return _PICTURE_NAME.fullmatch(name) is not None


def check_picture_name(name: str, beside: Iterable[str] = ()) -> None:
    """Raise ValueError for a name that readers could not recover from a tar member's name."""
    if not is_picture_name(name):
        raise ValueError(f"a picture's name is a letter, then letters, digits, _ and -, got {name!r}")
    for other in beside:
        if name != other and name.lower() == other.lower():
            raise ValueError(f"readers of tars take the pictures {other!r} and {name!r} for one: give another name")
