"""Facts: what a programmatic renderer knows to be true of its image.

They live in `record["facts"]` as JSON. Renderers write and draw them, the `facts` captioner puts them into words, and
models are checked against them. This module knows their shape, not the vocabulary of any world.
"""

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class ObjectFacts(BaseModel):
    """A group of like objects: "three large red stars"."""

    model_config = _FROZEN

    kind: str = Field(description="singular noun, such as 'star'")
    colour: str
    size: str = Field(description="'small', 'large', …, or empty if size means nothing")
    count: int = Field(ge=1)
    #: once drawn, one box per object: (left, top, right, bottom) as fractions of the image
    boxes: tuple[tuple[float, float, float, float], ...] = ()


class Relation(BaseModel):
    """`subject` stands in `relation` to `object`; both are indices into `Facts.objects`."""

    model_config = _FROZEN

    subject: int
    relation: str = Field(description="'left of', 'right of', 'above' or 'below'")
    object: int


class Absent(BaseModel):
    """Something that is certainly not in the image: for questions whose answer is no."""

    model_config = _FROZEN

    kind: str
    colour: str = Field("", description="empty if there is no such kind in any colour")


class Facts(BaseModel):
    """Everything that is true of one scene."""

    model_config = _FROZEN

    background: str
    objects: tuple[ObjectFacts, ...]
    relations: tuple[Relation, ...] = ()
    absent: tuple[Absent, ...] = ()
