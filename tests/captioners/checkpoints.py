"""Tiny checkpoints of real architectures, with random weights, as folders that `from_pretrained` loads.

Real models, processors, tokenizers and chat templates, only small. Their weights are drawn wide, so that captions
differ from image to image instead of repeating one token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [f"{consonant}{vowel}" for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
PROMPT = "describe this image in one sentence . what colour is the how many ? answer caption en photo of a"
ROWS = [f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)]


def tokenizer(specials: Sequence[str], template: str, **named: Any) -> tf.PreTrainedTokenizerFast:
    """Words as tokens. `template` says which special tokens go around a text: "[CLS] $A [SEP]"."""
    vocabulary = {token: i for i, token in enumerate([*specials, *WORDS, *PROMPT.split(), "<unk>"])}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [(token, vocabulary[token]) for token in template.split() if token != "$A"]
    built.post_processor = processors.TemplateProcessing(single=template, special_tokens=around)
    built.add_special_tokens(list(specials))
    return tf.PreTrainedTokenizerFast(tokenizer_object=built, unk_token="<unk>", **named)


def save(folder: Path, model: Any, processor: Any, seed: int = 0, spread: float = 1.0, **generation: Any) -> Path:
    """Draw the weights wide and write model, processor and generation config."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                fan_in = weight[0].numel() if "embed" not in name else 1
                weight.copy_(torch.randn(weight.shape, generator=random) * spread / fan_in**0.5)
    for name, value in generation.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


CHAT = (
    "{% for m in messages %}{{ m['role'] | upper }} : {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE{% else %}{{ c['text'] }}{% endif %}{% endfor %} END {% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT : {% endif %}"
)


def idefics3(folder: Path) -> Path:
    """The architecture of SmolVLM: large images are split into tiles, so rows have different lengths."""
    specials = ["<pad>", "<s>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>", *ROWS]
    words = tokenizer(specials, "$A", pad_token="<pad>", bos_token="<s>", eos_token="<end_of_utterance>")
    template = "<s>" + CHAT.replace("IMAGE", "<image>").replace("END", "<end_of_utterance>")
    tiles = tf.Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = tf.Idefics3Processor(tiles, words, image_seq_len=4, chat_template=template)
    config = tf.Idefics3Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words), "pad_token_id": 0},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    return save(folder, tf.Idefics3ForConditionalGeneration(config), processor, eos_token_id=2, pad_token_id=0)


VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = {**VISION, "num_key_value_heads": 2, "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2}


def llava(folder: Path) -> Path:
    """LLaVA 1.5, without a padding token, and told by its generation config to sample with two beams."""
    words = tokenizer(["<unk0>", "<s>", "</s>", "<image>"], "<s> $A", bos_token="<s>", eos_token="</s>")
    template = CHAT.replace("IMAGE", "<image>").replace("END", "")
    processor = tf.LlavaProcessor(
        tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        words,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    config = tf.LlavaConfig(
        vision_config={"model_type": "clip_vision_model", **VISION, "image_size": 32, "patch_size": 8},
        text_config={"model_type": "llama", **TEXT, "vocab_size": len(words)},
        image_token_index=3,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    model = tf.LlavaForConditionalGeneration(config)
    return save(folder, model, processor, do_sample=True, temperature=0.3, top_p=0.5, num_beams=2, max_length=500)


def qwen2_vl(folder: Path) -> Path:
    """Qwen2-VL: as many image tokens as the image has patches, and a repetition penalty."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    specials += ["<|image_pad|>", "<|video_pad|>"]
    words = tokenizer(specials, "$A", pad_token="<|endoftext|>", eos_token="<|im_end|>")
    image = "<|vision_start|><|image_pad|><|vision_end|>"
    template = CHAT.replace("IMAGE", image).replace("END", "<|im_end|>")
    sizes = {"patch_size": 4, "temporal_patch_size": 1, "merge_size": 2}
    limits = {"shortest_edge": 8 * 8, "longest_edge": 64 * 64}
    processor = tf.Qwen2VLProcessor(
        tf.Qwen2VLImageProcessor(**sizes, size=limits),
        words,
        tf.Qwen2VLVideoProcessor(**sizes, size=limits),
        chat_template=template,
    )
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    config = tf.Qwen2VLConfig(
        vision_config={"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
        | {"patch_size": 4, "temporal_patch_size": 1, "spatial_merge_size": 2},
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": rope, "bos_token_id": 0, "eos_token_id": 2},
        image_token_id=5,
        video_token_id=6,
        vision_start_token_id=3,
        vision_end_token_id=4,
    )
    model = tf.Qwen2VLForConditionalGeneration(config)
    generation = {"do_sample": True, "top_k": 1, "temperature": 0.1, "repetition_penalty": 1.3}
    return save(folder, model, processor, **generation, eos_token_id=[2, 0], pad_token_id=0)


def bert_words() -> tf.PreTrainedTokenizerFast:
    named = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return tokenizer(["[PAD]", "[CLS]", "[SEP]", "[DEC]"], "[CLS] $A [SEP]", **named)


def blip_config(words: tf.PreTrainedTokenizerFast) -> tf.BlipConfig:
    text = {**VISION, "vocab_size": len(words), "encoder_hidden_size": 32, "max_position_embeddings": 64}
    ids = {"bos_token_id": 3, "eos_token_id": 2, "sep_token_id": 2, "pad_token_id": 0}
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    return tf.BlipConfig(text_config={**text, **ids, "projection_dim": 32}, vision_config=vision)


def blip(folder: Path) -> Path:
    """BLIP: an encoder for the image, and a text decoder with cross-attention; continues a prompt."""
    words = bert_words()
    processor = tf.BlipProcessor(tf.BlipImageProcessor(size={"height": 32, "width": 32}), words)
    return save(folder, tf.BlipForConditionalGeneration(blip_config(words)), processor)


def blip_vqa(folder: Path) -> Path:
    """BLIP for questions: reads the question with an encoder of its own."""
    words = bert_words()
    processor = tf.BlipProcessor(tf.BlipImageProcessor(size={"height": 32, "width": 32}), words)
    return save(folder, tf.BlipForQuestionAnswering(blip_config(words)), processor)


def git(folder: Path) -> Path:
    """GIT: a decoder that reads image tokens before the text."""
    words = bert_words()
    size = {"shortest_edge": 32}
    processor = tf.GitProcessor(tf.CLIPImageProcessor(size=size, crop_size={"height": 32, "width": 32}), words)
    config = tf.GitConfig(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        **VISION,
        vocab_size=len(words),
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return save(folder, tf.GitForCausalLM(config), processor)


def paligemma(folder: Path) -> Path:
    """PaliGemma: a fixed number of image tokens, then a prefix such as "caption en"."""
    specials = ["<pad>", "<bos>", "<eos>", "<image>"]
    named = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    words = tokenizer(specials, "$A", **named)
    images = tf.SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = tf.PaliGemmaProcessor(images, words)
    config = tf.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", **VISION, "image_size": 32, "patch_size": 8}
        | {"vision_use_head": False},
        text_config={"model_type": "gemma", **TEXT, "vocab_size": len(words), "head_dim": 16, "pad_token_id": 0}
        | {"tie_word_embeddings": False},
        image_token_index=words.convert_tokens_to_ids("<image>"),
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=False,
    )
    return save(folder, tf.PaliGemmaForConditionalGeneration(config), processor, eos_token_id=2, pad_token_id=0)


def blip2(folder: Path) -> Path:
    """BLIP-2 with OPT: hands image features and prompt to a language model inside."""
    words = tokenizer(["<pad>", "<s>", "</s>"], "<s> $A", pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    images = tf.BlipImageProcessor(size={"height": 32, "width": 32})
    processor = tf.Blip2Processor(images, words, num_query_tokens=4)
    size = {**VISION, "vocab_size": len(words)}
    text = {"model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"vocab_size": len(words), "word_embed_proj_dim": 32, "max_position_embeddings": 128}
    text |= {"tie_word_embeddings": False}
    config = tf.Blip2Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        qformer_config={**size, "encoder_hidden_size": 32},
        text_config={**text, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        num_query_tokens=4,
        image_token_index=words.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    return save(folder, tf.Blip2ForConditionalGeneration(config), processor)


CHAT_MODELS = {"idefics3": idefics3, "llava": llava, "qwen2_vl": qwen2_vl}
PLAIN_MODELS = {"blip": blip, "git": git, "paligemma": paligemma, "blip2": blip2}


def teach_answers(source: str | Path, folder: Path) -> Path:
    """The checkpoint of `source`, with yes and No in its vocabulary ("no" is one of its words already)."""
    processor = tf.AutoProcessor.from_pretrained(source)
    model = tf.AutoModelForImageTextToText.from_pretrained(source, dtype=torch.float32)
    processor.tokenizer.add_tokens(["yes", "No"])
    torch.manual_seed(3)
    model.resize_token_embeddings(len(processor.tokenizer), mean_resizing=False)
    with torch.no_grad():  # small, so that the answers differ from picture to picture
        model.get_output_embeddings().weight[-2:].normal_(0, 0.05)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
