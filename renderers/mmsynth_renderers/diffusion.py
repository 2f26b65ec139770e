"""The diffusion renderer: any text-to-image pipeline of diffusers, one seed per sample.

Knows how to call a pipeline so that a sample's picture depends on its prompt, its seed and the parameters alone. Does
not know single architectures: reads a pipeline's arguments from its signature.
"""

import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr, field_validator

from mmsynth.errors import MMSynthError, ModelError, PluginError, RecipeError, SampleError
from mmsynth.image import Image
from mmsynth.models import (
    ModelFiles,
    ModelInfo,
    dtype_name,
    in_one_line,
    loading_quietly,
    resolve_dtype,
    tell_of_nano,
)
from mmsynth.sample import Dropped, Failed, Result, Sample
from mmsynth.stage import Renderer
from mmsynth_renderers.parts import load_parts
from mmsynth_renderers.pipeline_files import find_pipeline
from mmsynth_renderers.schedulers import check_scheduler, exchange_scheduler

if TYPE_CHECKING:
    import PIL.Image
    import torch

    from mmsynth_renderers.finite import FiniteWatch

#: the arguments of a pipeline's call that this stage sets itself
_OWN = frozenset({"prompt", "generator", "num_images_per_prompt", "output_type", "return_dict", "latents", "callback"})
#: defaults for nano-diffusion, because a pipeline's own defaults are made for large models
NANO_STEPS, NANO_GUIDANCE = 8, 3.0
#: latents are an eighth of the picture
_PIXELS_PER_LATENT = 8


class DiffusionRenderer(Renderer):
    """Draw each sample's caption with a text-to-image model.

    `model` is any diffusers folder or hub id that `AutoPipelineForText2Image` knows: Stable Diffusion, SDXL, SD3,
    Flux, PixArt, Sana, … Each sample has a generator of its own on the CPU, so the same seed gives the same picture in
    any batch and, up to rounding, on any device.

    Drops `safety_checker` (flagged by the pipeline's own checker, which cannot be turned off here) and `black_image`
    (nothing but zeros). Latents or pixels that are not finite, as where a model overflows in float16, fail as
    `not_finite`. A caption that no text encoder could read to its end is drawn all
    the same and marked: `record["prompt_truncated"]`. Samples without a caption fail as `no_prompt`.
    """

    model: str = Field("nano", description="a hub id, a local folder, or nano")
    revision: str | None = Field(None, description="the hub's branch, tag or commit")
    variant: str | None = Field(None, description="which weight files, such as fp16")
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    steps: int | None = Field(None, ge=1, description="denoising steps; None: the pipeline's own")
    guidance: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="classifier-free guidance; None: the pipeline's own"
    )
    size: int | str | None = Field(None, description="pixels, one number or WIDTHxHEIGHT; None: the model's own")
    negative_prompt: str | None = None
    scheduler: str | None = Field(None, description="euler, ddim, dpm++, … or a class name of diffusers")
    extra: Mapping[str, bool | int | float | str] = Field(
        default_factory=dict, description="more arguments of this pipeline's call, such as {true_cfg_scale: 4.0}"
    )
    batch_size: int = Field(4, ge=1, description="samples that go through the model together")

    _pipeline: Any = PrivateAttr(default=None)
    _watch: "FiniteWatch | None" = PrivateAttr(default=None)
    _arguments: dict[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator("size")
    @classmethod
    def _size_is_sound(cls, size: int | str | None) -> int | str | None:
        if size is not None and any(side <= 0 or side % _PIXELS_PER_LATENT for side in _sides(size)):
            raise ValueError(f"must be multiples of {_PIXELS_PER_LATENT} pixels, got {size}")
        return size

    @field_validator("scheduler")
    @classmethod
    def _scheduler_exists(cls, scheduler: str | None) -> str | None:
        if scheduler is not None:
            check_scheduler(scheduler)
        return scheduler

    @field_validator("extra")
    @classmethod
    def _extra_is_free(cls, extra: Mapping[str, Any]) -> Mapping[str, Any]:
        if taken := sorted(extra.keys() & _OWN):
            raise ValueError(f"{', '.join(taken)}: set by the renderer itself")
        return extra

    def check(self) -> None:
        if importlib.util.find_spec("diffusers") is None:
            raise PluginError("the diffusion renderer needs diffusers: pip install 'mmsynth[diffusion]'")
        self._find()

    def _find(self) -> ModelFiles:
        return find_pipeline(self.model, revision=self.revision, variant=self.variant)

    def setup(self, device: str) -> None:
        import torch

        from mmsynth_renderers.finite import FiniteWatch
        from mmsynth_renderers.text_once import encode_once

        files, dtype = self._find(), resolve_dtype(self.dtype, device)
        if self.model == "nano":
            tell_of_nano(self.step_name, "stabilityai/sdxl-turbo")
        pipeline = _load(files, dtype, self.variant)
        self._arguments = self._accepted(pipeline)
        if self.scheduler is not None:
            exchange_scheduler(pipeline, self.scheduler)
        pipeline.set_progress_bar_config(disable=True)
        vae: Any = getattr(pipeline, "vae", None)
        if hasattr(vae, "enable_slicing"):
            # decode pictures one at a time, which takes a fraction of the memory and rounds the same in any batch
            vae.enable_slicing()
        if isinstance(vae, torch.nn.Module) and all(weight.ndim < 5 for weight in vae.parameters()):
            # the fastest layout for convolutions on CPUs and GPUs; it saves a sixth of the decoding on two cores
            vae.to(memory_format=torch.channels_last)
        encode_once(pipeline)
        self._watch = FiniteWatch(pipeline)
        self._pipeline = pipeline.to(device)
        self.record_model(ModelInfo(files.id, files.revision, dtype_name(dtype)))

    def _accepted(self, pipeline: Any) -> dict[str, Any]:
        """The call's arguments. Raises RecipeError for arguments that this pipeline does not take or would ignore."""
        width, height = _sides(self.size) if self.size is not None else (None, None)
        chosen = {
            "num_inference_steps": ("steps", self.steps),
            "guidance_scale": ("guidance", self.guidance),
            "width": ("size", width),
            "height": ("size", height),
            "negative_prompt": ("negative_prompt", self.negative_prompt),
        } | {name: (f"extra.{name}", value) for name, value in self.extra.items()}
        own = {"num_inference_steps": NANO_STEPS, "guidance_scale": NANO_GUIDANCE} if self.model == "nano" else {}
        arguments = own | {name: value for name, (_, value) in chosen.items() if value is not None}
        taken = inspect.signature(pipeline.__call__).parameters
        for name in arguments:
            if name not in taken:
                others = ", ".join(sorted(taken.keys() - _OWN - {"kwargs"}))
                raise RecipeError(f"{type(pipeline).__name__} takes no {name} ({chosen[name][0]}); it takes {others}")
        if self.negative_prompt is not None:
            _check_guided(pipeline, arguments)
        return arguments

    def prepare(self, sample: Sample) -> str:
        if sample.text is None:
            raise SampleError("no_prompt", "there is no caption to draw")
        return sample.text

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[str]) -> list[Result]:
        import torch

        arguments = dict(self._arguments)
        if "negative_prompt" in arguments:
            # a list like the prompts: some pipelines take a lone string for a batch of one
            arguments["negative_prompt"] = [arguments["negative_prompt"]] * len(batch)
        # on the CPU, so that a seed gives the same noise for every device
        generators = [torch.Generator("cpu").manual_seed(self.seed_of(sample)) for sample in batch]
        with torch.inference_mode(), _quiet():
            drawn = self._pipeline(prompt=list(prepared), generator=generators, output_type="pil", **arguments)
        self._check_size(drawn.images[0])
        flagged = _flags(drawn, len(batch))
        truncated = [self._is_truncated(prompt) for prompt in prepared]
        assert self._watch is not None, "setup() must run before the first batch"
        finite = self._watch.rows(len(batch))
        return [_result(*each) for each in zip(batch, drawn.images, flagged, truncated, finite, strict=True)]

    def _check_size(self, picture: "PIL.Image.Image") -> None:
        """Raise RecipeError if the pipeline rounded the size, as some silently do."""
        if self.size is not None and picture.size != _sides(self.size):
            width, height = picture.size
            name = type(self._pipeline).__name__
            raise RecipeError(f"{name} cannot draw size {self.size}: the nearest that it can is {width}x{height}")

    def _is_truncated(self, prompt: str) -> bool:
        """Whether every text encoder of the pipeline truncates this prompt, which they do silently.

        Not called in `prepare`: tokenizers keep truncation as state, which must not change while the pipeline runs.
        """
        parts = [part for name, part in self._pipeline.components.items() if name.startswith("tokenizer") and part]
        limit = self._arguments.get("max_sequence_length") or _default(self._pipeline, "max_sequence_length")
        cut = []
        for part in parts:
            tokenizer = getattr(part, "tokenizer", part)  # a processor holds its tokenizer
            longest = min(tokenizer.model_max_length, limit or tokenizer.model_max_length)
            cut.append(len(tokenizer(prompt, truncation=False, verbose=False).input_ids) > longest)
        return bool(cut) and all(cut)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the pipelines' warnings for each batch, about cut prompts and flagged pictures. Our records have both."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


@loading_quietly("transformers", "diffusers")
def _load(files: ModelFiles, dtype: "torch.dtype", variant: str | None) -> Any:
    import diffusers

    auto: Any = diffusers.AutoPipelineForText2Image

    # the argument was called torch_dtype before 0.41, and 1.0 removes that name
    renamed = tuple(int(part) for part in diffusers.__version__.split(".")[:2]) >= (0, 41)
    options = {"dtype" if renamed else "torch_dtype": dtype, "variant": variant, "use_safetensors": True}
    try:
        parts = load_parts(files, dtype, variant)
        pipeline = auto.from_pretrained(files.folder, local_files_only=True, **parts, **options)
    except MMSynthError:
        raise
    except Exception as error:  # diffusers and the libraries below it raise a dozen kinds
        raise ModelError(
            f"model '{files.id}' could not be loaded as a text-to-image pipeline: {in_one_line(error)}"
        ) from error
    missing = {"prompt", "generator"} - inspect.signature(pipeline.__call__).parameters.keys()
    if missing:
        raise ModelError(
            f"{type(pipeline).__name__} takes no {' and no '.join(sorted(missing))}: it cannot be used here"
        )
    return pipeline


def _check_guided(pipeline: Any, arguments: Mapping[str, Any]) -> None:
    """Raise RecipeError if the pipeline would ignore a negative prompt, which has no effect without guidance."""
    # pipelines of guidance-distilled models (Flux, Qwen-Image) call true guidance by another name
    name = "true_cfg_scale" if _default(pipeline, "true_cfg_scale") is not None else "guidance_scale"
    scale = arguments.get(name, _default(pipeline, name))
    if isinstance(scale, int | float) and scale <= 1:
        where = "guidance" if name == "guidance_scale" else f"extra: {{{name}: …}}"
        raise RecipeError(f"negative_prompt is ignored where {name} is at most 1, and it is {scale}: set {where}")


def _default(pipeline: Any, argument: str) -> Any:
    """The pipeline's default for an argument, or None if it has no such argument."""
    parameter = inspect.signature(pipeline.__call__).parameters.get(argument)
    return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default


def _sides(size: int | str) -> tuple[int, int]:
    """Width and height. Raises ValueError."""
    if match := re.fullmatch(r"(\d+)(?:[x×](\d+))?", str(size).strip()):
        return int(match[1]), int(match[2] or match[1])
    raise ValueError(f"must be a number of pixels or WIDTHxHEIGHT, got '{size}'")


def _flags(drawn: Any, n: int) -> list[bool]:
    """The safety checker's verdict on each picture. Pipelines without a checker flag nothing."""
    verdict = getattr(drawn, "nsfw_content_detected", None) or getattr(drawn, "nsfw_detected", None)
    return [bool(flag) for flag in verdict] if verdict else [False] * n


def _result(sample: Sample, picture: "PIL.Image.Image", flagged: bool, truncated: bool, is_finite: bool) -> Result:
    if not is_finite:
        return Failed(
            "not_finite", "the model's latents or pixels are not finite: its weights are broken, or its dtype"
        )
    if flagged:
        return Dropped("safety_checker")
    if picture.getbbox() is None:  # nothing but zeros
        return Dropped("black_image")
    captions = sample.record.get("captions", ())
    if not any(isinstance(entry, Mapping) and entry.get("text") == sample.caption for entry in captions):
        # not with the caption in place, which would be kept a second time, as an original caption
        sample = replace(sample, caption=None).with_caption(sample.caption or "", origin="prompt")
    if truncated:
        sample = sample.with_record(prompt_truncated=True)
    return sample.with_image(Image.from_pixels(picture))
