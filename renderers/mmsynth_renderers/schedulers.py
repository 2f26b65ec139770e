"""Samplers for diffusion pipelines: short names, and replacing a pipeline's scheduler by another diffusers class.

Knows the names, and which two kinds of sampler never mix. Does not know which gives the best pictures.
"""

import difflib
from typing import Any

from mmsynth.errors import RecipeError

SHORT_NAMES = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "deis": "DEISMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_a": "EulerAncestralDiscreteScheduler",
    "flow_euler": "FlowMatchEulerDiscreteScheduler",
    "flow_heun": "FlowMatchHeunDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "tcd": "TCDScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def check_scheduler(name: str) -> None:
    """Raise ValueError, with a suggestion, for a name that is neither a short name nor a diffusers class."""
    # import diffusers only for a class without a short name, because that takes seconds
    if name in SHORT_NAMES or name in SHORT_NAMES.values() or name in (known := _classes()):
        return
    close = difflib.get_close_matches(name, [*SHORT_NAMES, *known], n=1)
    meant = f" Did you mean '{close[0]}'?" if close else ""
    raise ValueError(
        f"no scheduler named '{name}'.{meant} "
        f"Short names: {', '.join(SHORT_NAMES)}; or the name of a scheduler class in diffusers"
    )


def exchange_scheduler(pipeline: Any, name: str) -> None:
    """Give `pipeline` the scheduler `name`, configured like its own. Raises RecipeError if the two cannot mix."""
    import diffusers

    own = pipeline.components.get("scheduler")
    # a combined pipeline (Kandinsky, Cascade) uses the schedulers of its parts, and would ignore a new one
    if own is None or any(hasattr(part, "scheduler") for part in pipeline.components.values()):
        raise RecipeError(f"{type(pipeline).__name__} has no single scheduler that '{name}' could stand in for")
    try:
        new = getattr(diffusers, SHORT_NAMES.get(name, name)).from_config(own.config)
    except (ImportError, TypeError, ValueError) as error:
        raise RecipeError(f"the scheduler '{name}' does not take this model's configuration: {error}") from error
    if _is_flow(new) != _is_flow(own):
        kinds = ("predicts noise", "is a flow-matching model")
        raise RecipeError(
            f"the scheduler '{name}' does not fit this model, which {kinds[_is_flow(own)]} "
            f"(its own scheduler is {type(own).__name__})"
        )
    pipeline.scheduler = new


def _is_flow(scheduler: Any) -> bool:
    """Whether it is for flow matching, which predicts a velocity. A sampler for noise would silently blur pictures."""
    return "Flow" in type(scheduler).__name__ or bool(scheduler.config.get("use_flow_sigmas", False))


def _classes() -> list[str]:
    try:
        import diffusers
    except ImportError:
        return list(SHORT_NAMES.values())
    return [name for name in dir(diffusers) if name.endswith("Scheduler")]
