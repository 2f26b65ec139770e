"""The filter `faces`: counts the faces in a picture and measures their area. Can blur them.

OpenCV's Haar cascade, which comes with OpenCV 4, finds the faces. It recognises no person.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, PrivateAttr, model_validator

from mmsynth.bounds import Bound
from mmsynth.errors import PluginError
from mmsynth.image import Image
from mmsynth.models import ModelInfo
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter

if TYPE_CHECKING:
    import PIL.Image

#: x, y, width and height in pixels
Box = tuple[int, int, int, int]

_CASCADE = "haarcascade_frontalface_alt2.xml"
#: larger pictures are searched at this size, because the time grows with the pixels
_SEARCHED_SIDE = 1024
#: blur this share more on each side, because a face's box ends at the eyebrows and the chin
_MARGIN = 0.15


class Faces(Filter):
    """Count the faces in an image. Drop images with too many or too few, or blur the faces.

    The scores are `faces`, their number, and `face_area`, the share of the picture that their boxes cover.
    `record["faces"]` has the boxes as [x, y, width, height] in pixels of the upright picture. Reasons:
    `faces_above_max`, `faces_below_min`, `face_area_above_max`. Without a bound it only scores. Samples without an
    image fail as `no_image`.

    `blur: true` blurs the faces found, and encodes the changed picture again. Pictures without faces stay unchanged.
    `record["faces_blurred"]` says how many faces were blurred.

    Viola and Jones 2001, by OpenCV: quick and small, for faces that look towards the camera. It misses profiles, and
    small and covered faces (so blurring does not anonymise), and sometimes takes a texture for a face.
    `min_confidence` trades one error for the other.
    """

    judges = frozenset({"image"})

    min_faces: int | None = Field(None, ge=0, description="drop when there are fewer")
    max_faces: int | None = Field(None, ge=0, description="drop when there are more")
    max_area: float | None = Field(None, ge=0, le=1, description="drop when they cover a larger share of the picture")
    min_side: float = Field(
        0.04, gt=0, le=1, description="the smallest face looked for, as a share of the shorter side"
    )
    min_confidence: float = Field(
        1.0,
        ge=0,
        description="the cascade's weight of a face: 0 takes all, 1 rejects most false ones, 3 misses true ones",
    )
    blur: bool = Field(False, description="blur the faces in the picture")

    _cascade: Any = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _something_to_blur(self) -> Self:
        if self.blur and 0 in {self.max_faces, self.max_area}:
            raise ValueError("blur would never blur: max_faces or max_area of 0 drops every picture with a face")
        return self

    def check(self) -> None:
        _cascade_file()

    def setup(self, device: str) -> None:
        import cv2

        file = _cascade_file()
        self._cascade = cv2.CascadeClassifier(str(file))
        self.record_model(ModelInfo(f"opencv/{_CASCADE}", cv2.__version__, "float32"))

    def prepare(self, sample: Sample) -> "PIL.Image.Image":
        """The picture in RGB."""
        return sample.required_image().pixels()

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence["PIL.Image.Image"]) -> list[Result]:
        return [self._judged(sample, picture) for sample, picture in zip(batch, prepared, strict=True)]

    def score_names(self) -> tuple[str, ...]:
        return ("faces", "face_area")

    def bounds(self) -> tuple[Bound, ...]:
        return (Bound("faces", min="min_faces", max="max_faces"), Bound("face_area", max="max_area"))

    def _judged(self, sample: Sample, picture: "PIL.Image.Image") -> Result:
        boxes = self.find(picture)
        scores = {"faces": len(boxes), "face_area": round(_covered(boxes, picture.size), 4)}
        scored = self.judged(sample, scores, {"faces": [list(box) for box in boxes]})
        if isinstance(scored, Dropped) or not (self.blur and boxes):
            return scored
        blurred = Image.from_pixels(blur_boxes(picture, boxes))
        return scored.with_image(blurred).with_record(faces_blurred=len(boxes))

    def find(self, picture: "PIL.Image.Image") -> list[Box]:
        """The boxes of the faces in an RGB picture, from left to right."""
        import numpy as np

        if self._cascade is None:
            raise RuntimeError("Faces.setup() must run before the first batch")
        scale = max(1.0, max(picture.size) / _SEARCHED_SIDE)
        grey = picture.convert("L")
        if scale > 1:
            grey = grey.resize((max(1, round(grey.width / scale)), max(1, round(grey.height / scale))))
        side = max(20, round(min(grey.size) * self.min_side))
        found, _, weights = self._cascade.detectMultiScale3(
            np.asarray(grey), scaleFactor=1.1, minNeighbors=4, minSize=(side, side), outputRejectLevels=True
        )
        sure = [box for box, weight in zip(found, weights, strict=True) if float(weight) >= self.min_confidence]
        return sorted(tuple(round(float(value) * scale) for value in box) for box in sure)  # type: ignore[misc]  # always four


def blur_boxes(picture: "PIL.Image.Image", boxes: Sequence[Box]) -> "PIL.Image.Image":
    """A copy with an ellipse around each box blurred beyond recognition."""
    import PIL.Image
    from PIL import ImageDraw, ImageFilter

    changed = picture.copy()
    for x, y, width, height in boxes:
        dx, dy = round(width * _MARGIN), round(height * _MARGIN)
        frame = (
            max(0, x - dx),
            max(0, y - dy),
            min(picture.width, x + width + dx),
            min(picture.height, y + height + dy),
        )
        part = picture.crop(frame)
        # reduce to so few pixels that the blur cannot be undone, then smooth
        few = part.resize((6, 6), PIL.Image.Resampling.BOX).resize(part.size, PIL.Image.Resampling.BICUBIC)
        mask = PIL.Image.new("L", part.size)
        ImageDraw.Draw(mask).ellipse((0, 0, *part.size), fill=255)
        changed.paste(few, frame[:2], mask.filter(ImageFilter.GaussianBlur(max(part.size) / 50)))
    return changed


def _covered(boxes: Sequence[Box], size: tuple[int, int]) -> float:
    """The share of a picture that lies in at least one box."""
    import numpy as np

    if not boxes:
        return 0.0
    covered = np.zeros((size[1], size[0]), dtype=bool)
    for x, y, width, height in boxes:
        covered[y : y + height, x : x + width] = True
    return float(covered.mean())


def _cascade_file() -> Path:
    wanted = (
        "the filter 'faces' needs OpenCV 4 and the cascades that come with it: pip install 'mmsynth[safety-images]'"
    )
    if importlib.util.find_spec("cv2") is None:
        raise PluginError(wanted)
    import cv2

    folder = getattr(getattr(cv2, "data", None), "haarcascades", None)
    if folder is None or not (Path(folder) / _CASCADE).is_file() or not hasattr(cv2, "CascadeClassifier"):
        raise PluginError(f"{wanted} (OpenCV {cv2.__version__} has none)")
    return Path(folder) / _CASCADE
