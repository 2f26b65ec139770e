"""The generation configs of checkpoints: what of them counts, and where a model stops."""

from typing import Any

#: the settings kept from a checkpoint's generation config: special tokens and forbidden tokens. The request decides how
#: to choose tokens (sampling, beams, lengths)
_KEPT = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "suppress_tokens", "begin_suppress_tokens"),
    *("bad_words_ids", "no_repeat_ngram_size"),
)


def leave_choosing_to_requests(model: Any, tokenizer: Any) -> list[Any]:
    """Replace the generation configs of a model and its parts, because checkpoints may turn on sampling or beams."""
    from transformers import GenerationConfig

    config_class: Any = GenerationConfig
    configs = []
    for part in model.modules():
        shipped = getattr(part, "generation_config", None)
        if shipped is None:
            continue
        kept = {name: getattr(shipped, name) for name in _KEPT if getattr(shipped, name, None) is not None}
        kept.setdefault("eos_token_id", tokenizer.eos_token_id)
        kept.setdefault("pad_token_id", tokenizer.pad_token_id)
        part.generation_config = config_class(**kept, do_sample=False, num_beams=1, max_new_tokens=1)
        configs.append(part.generation_config)
    return configs


def stop_ids(model: Any) -> set[int]:
    """The tokens at which this model stops."""
    if model.config.model_type == "blip":
        return {model.config.text_config.sep_token_id}  # BLIP's own generate stops there, whatever the config says
    # these models delegate generation to the language model inside
    part = model.language_model if model.config.model_type in {"blip-2", "instructblip"} else model
    ids = part.generation_config.eos_token_id
    return set(ids) if isinstance(ids, list) else {ids}
