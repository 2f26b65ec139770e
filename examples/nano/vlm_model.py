"""nano-vlm's shape, tokenizer and processor, as the folder that transformers loads as any image-text-to-text model.

FastVLM's architecture (Vasu et al. 2024), small: a convolutional tower (a ResNet of timm) whose 8 × 8 feature map
becomes 64 tokens, a projector, and a Llama that reads them before the text.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPImageProcessor,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

PAD, END, USER, ASSISTANT, IMAGE = "<pad>", "<end>", "<user>", "<assistant>", "<image>"
IMAGE_SIZE, GRID = 64, 8
TOWER_WIDTH, WIDTH = 192, 192
_VOCABULARY = 1024

#: one user turn with its image first, and what the model answers
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<user>' if message['role'] == 'user' else '<assistant>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<end>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def create(folder: Path, texts: Iterable[str]) -> None:
    """A new folder with random weights, and a tokenizer trained on `texts`."""
    tokenizer = train_tokenizer(texts)
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = CLIPImageProcessor(
        size={"shortest_edge": IMAGE_SIZE}, crop_size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=IMAGE_SIZE // GRID,
        vision_feature_select_strategy="full",
        chat_template=_CHAT_TEMPLATE,
        image_token=IMAGE,
    )
    model = FastVlmForConditionalGeneration(config(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def config(tokenizer: PreTrainedTokenizerFast) -> FastVlmConfig:
    # a ResNet-18 of one block a stage; dilated from 8 × 8 pixels on, so that every cell sees the whole picture
    tower = {
        "layers": [1, 1, 1, 1],
        "channels": [32, 64, 128, TOWER_WIDTH],
        "stem_type": "deep",
        "stem_width": 16,
        "output_stride": IMAGE_SIZE // GRID,
        "zero_init_last": False,
    }
    vision = {
        "model_type": "timm_wrapper",
        "architecture": "resnet18",
        "model_args": tower,
        "do_pooling": False,
        "hidden_size": TOWER_WIDTH,
        "label_names": ["none"],
    }
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return FastVlmConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=GRID * GRID,
        tie_word_embeddings=True,
    )


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte pairs: the words of the scene world whole, and any other text in pieces."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, END, USER, ASSISTANT, IMAGE]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=_VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def load(folder: Path) -> tuple[Any, Any]:
    """The model in float32 and its processor, through transformers' own loaders."""
    processor = AutoProcessor.from_pretrained(folder)
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32), processor
