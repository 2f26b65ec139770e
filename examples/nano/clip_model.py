"""nano CLIP's shape and tokenizer, written as the folder that open_clip loads as `local-dir:`."""

import json
import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from examples.nano.scene_pairs import ScenePairs

CONTEXT_LENGTH = 64
_VOCABULARY = 512
_CONFIG = "open_clip_config.json"
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def config(vocabulary: int) -> dict[str, Any]:
    """open_clip_config.json: CLIP's ResNet, small, and a small causal text tower.

    Convolutions, because they learn shapes of 9 to 23 pixels from ten times fewer scenes than a ViT of this size.
    """
    vision = {"image_size": 64, "layers": [1, 2, 2, 1], "width": 24, "head_width": 64}
    text: dict[str, Any] = {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": vocabulary,
        "width": 128,
        "heads": 4,
        "layers": 3,
    }
    # a name is needed for open_clip to look for a Hugging Face tokenizer; in a local folder it is that folder
    text["hf_tokenizer_name"] = "nano"
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model_cfg": {"embed_dim": 256, "vision_cfg": vision, "text_cfg": text}, "preprocess_cfg": preprocess}


def train_tokenizer(captions: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of the scene world's English; lower-cased, other scripts become <unk>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    alphabet = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY - 1, special_tokens=["<pad>", "<unk>", "<start>"], initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(captions, trainer)
    # the end token comes last: open_clip's text tower reads its features where the largest token id stands
    tokenizer.add_special_tokens(["<end>"])
    start, end = tokenizer.token_to_id("<start>"), tokenizer.token_to_id("<end>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", start), ("<end>", end)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT_LENGTH,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
    )


def create_folder(folder: Path, captions: Iterable[str]) -> None:
    """A new folder with tokenizer, configuration and random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(captions)
    tokenizer.save_pretrained(folder)
    (folder / _CONFIG).write_text(json.dumps(config(len(tokenizer)), indent=2) + "\n")
    model = open_clip.CLIP(**{k: v for k, v in config(len(tokenizer))["model_cfg"].items()})
    save_weights(folder, model, torch.float32)


def create_if_missing(folder: Path, pairs: ScenePairs, seed: int) -> None:
    """`create_folder` with the captions of some scenes, unless there is one already.

    Two processes may do so at once: each makes its own, of equal content, and moves it there file by file.
    """
    if (folder / _CONFIG).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        create_folder(Path(own), (text for texts in pairs.captions for text in texts))
        # the configuration last: where it is, everything is
        for file in sorted(Path(own).iterdir(), key=lambda file: file.name == _CONFIG):
            file.replace(folder / file.name)


def token_ids(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    """int16 [n, context]."""
    return torch.cat([tokenizer(captions[i : i + 1000]) for i in range(0, len(captions), 1000)]).short()


def load(folder: Path) -> tuple[torch.nn.Module, Any]:
    """The model and tokenizer of `folder`, through open_clip's own loader, in float32."""
    name = f"local-dir:{folder}"
    model = open_clip.create_model(name, precision="fp32")
    return model, open_clip.get_tokenizer(name)


def save_weights(folder: Path, model: torch.nn.Module, dtype: torch.dtype) -> None:
    """The weights as safetensors, where open_clip looks for them."""
    state = {name: value.detach().to(dtype).contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})


def widths(model: Any) -> tuple[int, int]:
    """Of the embedding, and of the picture's 8 × 8 cells that `encode_with_cells` gives."""
    return model.visual.output_dim, model.visual.layer2[-1].bn3.num_features


def encode_with_cells(model: Any, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of length one, and the feature map half-way up the tower: [batch, channels, 8, 8] at 64 pixels."""
    cells: list[torch.Tensor] = []
    handle = model.visual.layer2.register_forward_hook(lambda _module, _inputs, map: cells.append(map))
    try:
        embeddings = model.encode_image(pictures, normalize=True)
    finally:
        handle.remove()
    return embeddings, cells[0]


def text_features(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """The text tower's last layer for every token [batch, tokens, width], without the padding that all texts share.

    After the longest text there is only padding, which a causal tower never looks at.
    """
    ids = ids[:, : int((ids != 0).sum(1).max())]
    x = model.token_embedding(ids) + model.positional_embedding[: ids.shape[1]]
    mask = model.attn_mask[: ids.shape[1], : ids.shape[1]]
    return model.ln_final(model.transformer(x, attn_mask=mask))  # type: ignore[no-any-return]  # untyped towers


def schedule(step: int, steps: int, warmup: int = 100) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
