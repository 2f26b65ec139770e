"""Tiny CLIP models with random weights, one for each kind of text tower, saved in open_clip's folder format."""

import json
from pathlib import Path
from typing import Any

import pytest

VISION = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
TEXT = {"context_length": 24, "width": 32, "heads": 2, "layers": 2}
WORDS = ["[PAD]", "[BOS]", "[EOS]", "[UNK]", ",", ".", "a", "and", "blue", "dog", "gradient", "of", "on", "red", "the"]

#: kind → what differs in its model_cfg; the first two are causal and pool at the end of the text
KINDS: dict[str, dict[str, Any]] = {
    "clip": {"text_cfg": {"vocab_size": 49408}},
    "eos": {"custom_text": True, "text_cfg": {"pool_type": "eos", "eos_id": 2, "proj_bias": True}},
    "siglip": {"custom_text": True, "text_cfg": {"pool_type": "last", "no_causal_mask": True}},
    "class_token": {"custom_text": True, "text_cfg": {"embed_cls": True, "output_tokens": False}},
    "transformers": {"text_cfg": {"hf_pooler_type": "mean_pooler"}},
}


@pytest.fixture(scope="session")
def clip_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Kind of text tower → model folder."""
    return {kind: save_clip(tmp_path_factory.mktemp(kind), changes) for kind, changes in KINDS.items()}


@pytest.fixture(scope="session")
def clip_folder(clip_folders: dict[str, Path]) -> Path:
    """OpenAI's kind of CLIP with its own tokenizer, tiny."""
    return clip_folders["clip"]


def save_full_size(folder: Path, architecture: str) -> Path:
    """One of open_clip's own models with the random weights it has at birth."""
    import open_clip
    import torch
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = open_clip.create_model(architecture)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    save_config_for_hf(model, folder / "open_clip_config.json", open_clip.get_model_config(architecture))
    return folder


def save_clip(folder: Path, changes: dict[str, Any]) -> Path:
    import open_clip
    import torch
    from open_clip.push_to_hf_hub import save_config_for_hf
    from safetensors.torch import save_file

    text = {**TEXT, **changes["text_cfg"]}
    if "vocab_size" not in text:
        save_tokenizer(folder)
        text |= {"vocab_size": len(WORDS), "hf_tokenizer_name": "its own folder"}
    if "hf_pooler_type" in text:
        text |= {"hf_model_name": str(save_bert_config(folder / "tower")), "hf_proj_type": "mlp"}
    config = {"embed_dim": 24, "vision_cfg": VISION, **changes, "text_cfg": text}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than at birth, so that captions differ clearly
            parameter.normal_(0, 0.2, generator=generator)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    save_config_for_hf(model, folder / "open_clip_config.json", config)
    return folder


def save_tokenizer(folder: Path) -> None:
    """A word-level tokenizer of transformers', with a start and an end around every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 1), ("[EOS]", 2)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", bos_token="[BOS]", eos_token="[EOS]", unk_token="[UNK]"
    )
    fast.save_pretrained(folder)


def save_bert_config(folder: Path) -> Path:
    from transformers import BertConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    BertConfig(vocab_size=len(WORDS), max_position_embeddings=24, pad_token_id=0, **sizes).save_pretrained(folder)
    return folder
