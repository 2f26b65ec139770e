"""A LLaVA that says what it is told: one-hot embeddings, silent layers, a head that maps each token to the next one."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "<s> {% for m in messages %}{{ m['role'] }} {% for p in m['content'] %}"
    "{{ '<image> ' if p['type'] == 'image' else p['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)
_SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>")


def save_scripted(
    folder: Path,
    script: Sequence[str],
    *,
    special: Sequence[str] = (),
    is_bytes: bool = False,
    opening: str = "",
    **generation: Any,
) -> Path:
    """A chat model that answers anything with the tokens of `script`, then stops.

    `special` among them are special; `opening` is how the template begins the answer.
    """
    torch.manual_seed(0)
    tokens = list(dict.fromkeys([*_SPECIAL, *special, *script, opening or ":", "user", "assistant", ":", "image"]))
    built = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    built.add_special_tokens([*_SPECIAL, *special])
    if is_bytes:
        built.decoder = decoders.ByteLevel()
    named = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    words = tf.PreTrainedTokenizerFast(tokenizer_object=built, **named, extra_special_tokens={"image_token": "<image>"})
    pictures = tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = tf.LlavaProcessor(
        pictures,
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE.replace("assistant :", f"assistant : {opening}"),
    )
    model = _model(words, [opening or ":", *script, "</s>"])
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _model(words: Any, chain: Sequence[str]) -> Any:
    """Each token of the chain makes the next one likeliest: no token may come twice."""
    size = len(words)
    number = words.convert_tokens_to_ids
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    text = {
        "model_type": "llama",
        "hidden_size": 64 * (size // 64 + 1),
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "vocab_size": size,
        "bos_token_id": number("<s>"),
        "eos_token_id": number("</s>"),
        "pad_token_id": number("<pad>"),
        "tie_word_embeddings": False,
    }
    config = tf.LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=number("<image>"),
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    model = tf.LlavaForConditionalGeneration(config)
    decoder = model.model.language_model
    with torch.no_grad():
        decoder.embed_tokens.weight.zero_()
        decoder.embed_tokens.weight[range(size), range(size)] = 1
        for layer in decoder.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for before, after in pairwise(chain):
            model.lm_head.weight[number(after), number(before)] = 1
    return model
