"""What all stages on an image-text-to-text model share: its parameters, finding it, loading it, decoding the images.

Does not know what is asked of the model: `vlm` captions, `ask` puts questions, `grounding` wants a yes or a no.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from mmsynth.errors import SampleError
from mmsynth.models import ModelInfo, resolve_dtype, tell_of_nano
from mmsynth.models.chat.generation import TextGenerator, find_checkpoint, load_checkpoint
from mmsynth.models.chat.sampling import Decoding, TokenChoice
from mmsynth.sample import Sample
from mmsynth.stage import Captioner, Stage

if TYPE_CHECKING:
    import PIL.Image


class ModelStage(Stage):
    """A stage that runs on an image-text-to-text model of transformers."""

    model: str = Field("nano", description="hub id, local folder, or nano")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    trust_remote_code: bool = Field(False, description="run code that comes with the model")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    system: str | None = Field(None, description="system prompt, for chat models")

    _generator: TextGenerator | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _revision_of_a_hub_model(self) -> Self:
        if self.model == "nano" and self.revision is not None:
            raise ValueError("revision goes with a hub model, and model is 'nano'")
        return self

    def check(self) -> None:
        find_checkpoint(self.model, self.revision, self.trust_remote_code)

    def load(self, device: str, decoding_for: Callable[[str, Any], TokenChoice]) -> None:
        """Load the model; `decoding_for` its id and tokenizer gives how it will write."""
        found = find_checkpoint(self.model, self.revision, self.trust_remote_code)
        if self.model == "nano":
            tell_of_nano(self.step_name, "HuggingFaceTB/SmolVLM-256M-Instruct")
        dtype = resolve_dtype(self.dtype, device)
        model, processor = load_checkpoint(found, device, dtype, self.trust_remote_code)
        decoding = decoding_for(found.id, processor.tokenizer)
        self._generator = TextGenerator(model, processor, decoding, self.system)
        self.record_model(ModelInfo(found.id, found.revision, str(dtype).removeprefix("torch.")))

    def prepare(self, sample: Sample) -> "PIL.Image.Image":
        """The picture in RGB. Raises SampleError(`no_image`) and ImageError."""
        if sample.image is None:
            raise SampleError("no_image", f"{sample.key} has no image to look at")
        return sample.image.pixels()

    @property
    def generator(self) -> TextGenerator:
        if self._generator is None:
            raise RuntimeError(f"{type(self).__name__}.setup() must run before the first batch")
        return self._generator


class ModelCaptioner(ModelStage, Captioner):
    """Base of the captioners that write with such a model."""

    max_new_tokens: int = Field(64, ge=1, description="longest text, in tokens")
    temperature: float = Field(0, ge=0, allow_inf_nan=False, description="0 takes the likeliest token, else sampled")
    top_p: float | None = Field(None, gt=0, le=1, description="sample from the likeliest tokens with this probability")
    top_k: int | None = Field(None, ge=1, description="sample from this many likeliest tokens")

    @model_validator(mode="after")
    def _sampling_needs_temperature(self) -> Self:
        given = [name for name in ("top_p", "top_k") if getattr(self, name) is not None]
        if given and self.temperature == 0:
            raise ValueError(f"{' and '.join(given)} need a temperature above 0, such as temperature: 0.7")
        return self

    def setup(self, device: str) -> None:
        decoding = Decoding(self.max_new_tokens, self.temperature, self.top_p, self.top_k)
        self.load(device, lambda _model, _tokenizer: decoding)

    @property
    def samples(self) -> bool:
        """Whether text is drawn at random, from the sample's seed."""
        return self.temperature > 0
