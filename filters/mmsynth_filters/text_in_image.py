"""The filter `text_in_image`: measures how much of a picture is text, and reads it.

RapidOCR reads the text, with the models in its package.
"""

import importlib.metadata
import importlib.util
import logging
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from mmsynth.errors import PluginError
from mmsynth.models import ModelInfo
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

if TYPE_CHECKING:
    import PIL.Image

#: areas are measured on a grid with this longer side
_GRID_SIDE = 512
#: pixels: rapidocr rounds sides to multiples of these
_THINNEST = 32


class TextInImage(Filter):
    """Find the text in an image, and drop the image if text covers too much of it, or too little.

    The score `text_area` is the share of the picture inside the boxes of text lines, and `text_lines` is their number.
    `record["text_in_image"]` has the lines from top to bottom, each with text and confidence. The field is missing if
    there is no text. Reasons: `text_area_above_max`, `text_area_below_min`. Without a bound it only scores. Samples
    without an image fail as `no_image`.

    Runs PP-OCR models with RapidOCR and ONNX Runtime, on the CPU. They read Latin letters, digits, Chinese and
    Japanese. They mostly find other scripts too, but read them wrong or not at all.
    """

    judges = frozenset({"image"})

    min: float | None = Field(None, ge=0, le=1, description="drop when text covers less of the picture than this")
    max: float | None = Field(None, ge=0, le=1, description="drop when text covers more, such as 0.2")
    min_confidence: float = Field(0.7, ge=0, le=1, description="lines that are read less surely do not count")
    min_chars: int = Field(
        2, ge=1, description="lines with fewer letters and digits do not count, since round things read as 0, 8 or O"
    )
    max_side: int = Field(960, ge=32, description="pixels: larger pictures are searched at this size, smaller as is")
    threads: int | None = Field(None, ge=1, description="CPU threads of the models; default: all")

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "threads"})

    _engine: Any = PrivateAttr(default=None)

    def check(self) -> None:
        for module in ("rapidocr", "onnxruntime"):
            if importlib.util.find_spec(module) is None:
                raise PluginError(f"the filter 'text_in_image' needs '{module}': pip install 'mmsynth[safety-images]'")

    def setup(self, device: str) -> None:
        import rapidocr

        parameters: dict[str, Any] = {"Global.log_level": "warning", "Global.text_score": self.min_confidence}
        parameters |= {"Det.limit_type": "max", "Det.limit_side_len": self.max_side}
        if self.threads is not None:
            parameters["EngineConfig.onnxruntime.intra_op_num_threads"] = self.threads
        self._engine = rapidocr.RapidOCR(params=parameters)
        logging.getLogger("RapidOCR").setLevel(logging.ERROR)  # it warns of every picture without text
        self.record_model(ModelInfo("rapidocr", importlib.metadata.version("rapidocr"), "float32"))

    def prepare(self, sample: Sample) -> "PIL.Image.Image":
        """The picture in RGB."""
        return sample.required_image().pixels()

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence["PIL.Image.Image"]) -> list[Result]:
        return [self._judged(sample, picture) for sample, picture in zip(batch, prepared, strict=True)]

    def score_names(self) -> tuple[str, ...]:
        return ("text_area", "text_lines")

    def _judged(self, sample: Sample, picture: "PIL.Image.Image") -> Result:
        boxes, lines = self._find(picture)
        scores = {"text_area": round(covered_share(boxes, picture.size), 4), "text_lines": len(boxes)}
        return self.judged(sample, scores, {"text_in_image": lines} if lines else None)

    def _find(self, picture: "PIL.Image.Image") -> tuple[list[Any], list[dict[str, Any]]]:
        """The corners of each line, and its text and confidence."""
        import numpy as np

        if self._engine is None:
            raise RuntimeError("TextInImage.setup() must run before the first batch")
        # pad very thin pictures by their edge, because shrinking to max_side would leave them no side
        thinnest = math.ceil(_THINNEST * max(picture.size) / self.max_side)
        missing = [(0, max(0, thinnest - side)) for side in (picture.height, picture.width)]
        blue_first = np.pad(np.asarray(picture)[:, :, ::-1], [*missing, (0, 0)], mode="edge")
        found = self._engine(np.ascontiguousarray(blue_first), use_det=True, use_cls=False, use_rec=True)
        boxes, lines = [], []
        if found.boxes is not None and found.txts is not None:
            for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
                if sum(map(str.isalnum, text)) >= self.min_chars:
                    boxes.append(np.asarray(box).tolist())
                    lines.append({"text": str(text), "confidence": round(float(score), 3)})
        return boxes, lines


def covered_share(boxes: Sequence[Sequence[Sequence[float]]], size: tuple[int, int]) -> float:
    """The share of a picture that lies in at least one box."""
    import numpy as np
    import PIL.Image
    from PIL import ImageDraw

    if not boxes:
        return 0.0
    scale = min(1.0, _GRID_SIDE / max(size))
    grid = PIL.Image.new("1", (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
    draw = ImageDraw.Draw(grid)
    for box in boxes:
        draw.polygon([(x * scale, y * scale) for x, y in box], fill=1)
    return float(np.asarray(grid).mean())
