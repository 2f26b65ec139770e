"""Facts: what a programmatic renderer knows to be true of its image.

They live in `record["facts"]` as JSON. Renderers write and draw them, the `facts` captioner speaks them, and models
are checked against them. This module knows their shape, not any world's vocabulary.
"""

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class ObjectFacts(BaseModel):
    """A group of like objects: "three large red stars"."""

    model_config = _FROZEN

    kind: str = Field(description="singular noun, such as 'star'")
    colour: str
    size: str = Field(description="'small', 'large', … ; empty where size says nothing")
    count: int = Field(ge=1)
    #: one box for each of the `count` objects once drawn: (left, top, right, bottom) as fractions of the image
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
    colour: str = Field("", description="empty: no such kind in any colour")


class Facts(BaseModel):
    """All that is true of one scene."""

    model_config = _FROZEN

    background: str
    objects: tuple[ObjectFacts, ...]
    relations: tuple[Relation, ...] = ()
    absent: tuple[Absent, ...] = ()
