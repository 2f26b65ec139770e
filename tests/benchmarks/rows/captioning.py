"""Captions by a model of SmolVLM-256M's shape, 30 new tokens, against one image at a time and bare `generate`."""

import io
from pathlib import Path
from typing import Any

import PIL.Image
import torch
import transformers as tf

import mmsynth as mm
from mmsynth.models import resolve_dtype
from mmsynth.models.chat.base import CAPTION_PROMPT
from mmsynth_captioners.vlm import VisionLanguageCaptioner
from tests.benchmarks.inputs import PHOTOGRAPH, pairs_in, write_tars
from tests.benchmarks.measure import Options, Row, Side, Target
from tests.benchmarks.warm import Warm, run
from tests.captioners import checkpoints

NEW_TOKENS = 30
_SPECIALS = ["<pad>", "<s>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]


class WarmCaptioner(Warm, VisionLanguageCaptioner):
    """VisionLanguageCaptioner that loads its model once."""


def row(options: Options) -> Row:
    n = options.count(16)
    folder, tars = model(options), write_tars(options.scratch / "caption", n, PHOTOGRAPH)
    pictures = [PIL.Image.open(io.BytesIO(data)).convert("RGB") for data, _ in pairs_in(tars)]
    dtype = resolve_dtype(options.dtype, options.device)
    stage = WarmCaptioner(model=str(folder), dtype=options.dtype, max_new_tokens=NEW_TOKENS, batch_size=n)
    stage.setup(options.device)
    ours = mm.read(f"{tars[0].parent}/*.tar").caption(stage)
    same, float32 = Bare(folder, options.device, dtype), Bare(folder, options.device, torch.float32)
    ready = same.inputs(pictures)
    return Row(
        f"captioning, {'tiny' if options.tiny else 'SmolVLM-256M-shaped'}, {NEW_TOKENS} new tokens",
        [
            Side("ours", lambda: run(ours, n, options.device)),
            Side("bare_generate", lambda: same.generate(ready)),
            Side("one_at_a_time_float32", lambda: sum(float32.generate(float32.inputs([p])) for p in pictures)),
        ],
        [
            Target("ours / one image at a time in float32", "ours", "one_at_a_time_float32", 3),
            Target("ours / bare batched generate", "ours", "bare_generate", 0.95),
        ],
        {"n": n, "batch_size": n, "image_tokens": 64, "tiles_an_image": 1},
    )


class Bare:
    """transformers alone."""

    def __init__(self, folder: Path, device: str, dtype: torch.dtype) -> None:
        self.processor: Any = tf.AutoProcessor.from_pretrained(folder)
        self.processor.tokenizer.padding_side = "left"
        self.model: Any = tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=dtype).to(device).eval()
        turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": CAPTION_PROMPT}]}
        self._prompt = self.processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)

    def inputs(self, pictures: list[PIL.Image.Image]) -> Any:
        texts, nested = [self._prompt] * len(pictures), [[picture] for picture in pictures]
        inputs = self.processor(images=nested, text=texts, padding=True, return_tensors="pt", add_special_tokens=False)
        return inputs.to(self.model.device, self.model.dtype)

    @torch.inference_mode()
    def generate(self, inputs: Any) -> int:
        written = self.model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        assert written.shape[1] == inputs["input_ids"].shape[1] + NEW_TOKENS, "no row may end before the others"
        return len(written)


def model(options: Options) -> Path:
    """SmolVLM-256M's shape with random weights: one 512-pixel tile of 64 tokens an image. It never ends a text."""
    folder = options.scratch / "caption_model"
    torch.manual_seed(3)
    words = checkpoints.tokenizer(
        [*_SPECIALS, *checkpoints.ROWS], "$A", pad_token="<pad>", bos_token="<s>", eos_token="<end_of_utterance>"
    )
    vocabulary = 49_280
    words.add_tokens([f"w{i} " for i in range(vocabulary - len(words))])  # every token that it can write has a text
    side = 64 if options.tiny else 512
    layers = {"num_hidden_layers": 2} if options.tiny else {}
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    config = tf.Idefics3Config(
        vision_config={**vision, "image_size": side, "patch_size": 16, **layers},
        text_config={"model_type": "llama", **text, "num_key_value_heads": 3, "vocab_size": vocabulary}
        | {"max_position_embeddings": 8192, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **layers},
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=4,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    made = tf.Idefics3ForConditionalGeneration(config)
    with torch.no_grad():
        made.lm_head.weight[: len(_SPECIALS) + len(checkpoints.ROWS)] = 0  # others are always likelier
    # no larger than one tile, as small images of SmolVLM's are on purpose where speed counts
    images = tf.Idefics3ImageProcessor(
        size={"longest_edge": side}, max_image_size={"longest_edge": side}, do_image_splitting=False
    )
    template = "<s>" + checkpoints.CHAT.replace("IMAGE", "<image>").replace("END", "<end_of_utterance>")
    tokens = (side // 16 // 4) ** 2
    processor = tf.Idefics3Processor(images, words, image_seq_len=tokens, chat_template=template)
    made.generation_config.eos_token_id, made.generation_config.pad_token_id = 2, 0
    made.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
