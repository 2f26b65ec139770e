"""CLIP's tokenizer in transformers' format, from the vocabulary that open_clip carries."""

import gzip
import json
from pathlib import Path

import open_clip
from transformers import CLIPTokenizer

_MERGES = 49_152 - 256 - 2


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    save_tokenizer(folder)
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return tokenizer


def save_tokenizer(folder: Path) -> None:
    """vocab.json and merges.txt, which every version of transformers reads."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(path.read_bytes()).decode().split("\n")[1 : _MERGES + 1]
    vocabulary = open_clip.tokenizer.SimpleTokenizer().encoder
    vocabulary = {
        {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}.get(token, token): number
        for token, number in vocabulary.items()
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    end = {"unk_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>", **end}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
