"""ClipModel leaves out what changes no embedding, and nothing else; captions are cut where they do not fit."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mmsynth.errors import ModelError
from mmsynth.models.clip.find import find_clip
from mmsynth.models.clip.model import ClipModel
from mmsynth.models.clip.text import CaptionReader
from mmsynth.models.clip.towers import FirstTokenBlock, pool_before_last_block
from mmsynth.testing import photo_samples
from tests.models.clip_folders import KINDS, VISION, save_clip


def loaded(folder: Path, *, exact: bool = True) -> ClipModel:
    import torch

    return ClipModel(find_clip(str(folder)), "cpu", torch.float32, exact=exact)


def open_clips_embedding(folder: Path, pixels: Sequence[Any]) -> Any:
    import open_clip
    import torch

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    with torch.no_grad():
        return model.eval().encode_image(torch.stack([preprocess(one) for one in pixels]), normalize=True).numpy()


def test_only_the_positions_that_count_go_through_a_causal_tower(clip_folders: dict[str, Path]) -> None:
    lengths = {
        kind: len(loaded(folder).reader().read("a dog").pieces[0].tokens) for kind, folder in clip_folders.items()
    }
    assert lengths == {"clip": 4, "eos": 4, "siglip": 24, "class_token": 24, "transformers": 24}


@pytest.mark.parametrize(
    ("vision", "spared"),
    [({}, True), ({"pool_type": "avg"}, False), ({"attentional_pool": True}, False), ({"layers": 1}, False)],
)
def test_only_the_class_token_goes_through_the_last_block(tmp_path: Path, vision: dict[str, Any], spared: bool) -> None:
    import open_clip

    folder = save_clip(tmp_path, {"vision_cfg": VISION | vision, "text_cfg": {"vocab_size": 49408}})
    visual = open_clip.create_model(f"local-dir:{folder}").visual
    assert pool_before_last_block(visual) is spared
    assert isinstance(visual.transformer.resblocks[-1], FirstTokenBlock) is spared
    pictures = [sample.required_image().pixels() for sample in photo_samples(4)]
    model = loaded(folder)
    embedded = model.embed_images([model.pixels_for(picture) for picture in pictures]).detach().numpy()
    assert np.abs(embedded - open_clips_embedding(folder, pictures)).max() < 1e-6


def test_images_without_texts_get_their_embedding_alone(clip_folder: Path) -> None:
    model = loaded(clip_folder)
    pixels = [model.pixels_of(sample.required_image()) for sample in photo_samples(2)]
    tokens = model.reader().read("a dog").pieces[0].tokens
    (cosines, first), (none, second) = model.compare(pixels, [[tokens, tokens], []], 8)
    assert len(cosines) == 2
    assert none == []
    alone = model.compare(pixels, [[], []], 8)
    assert [own for own, _ in alone] == [[], []]
    assert np.abs(np.stack([embedding for _, embedding in alone]) - np.stack([first, second])).max() < 1e-3
    assert model.compare([], [], 8) == []


@pytest.mark.parametrize(("mode", "least_side"), [("longest", None), ("shortest", 64), ("squash", 64)])
def test_models_that_pad_their_pictures_take_them_whole(tmp_path: Path, mode: str, least_side: int | None) -> None:
    folder = save_clip(tmp_path, {"vision_cfg": VISION | {"image_size": 64}, "text_cfg": {"vocab_size": 49408}})
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"] = {"resize_mode": mode}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert loaded(folder, exact=False).least_side == least_side
    assert loaded(folder).least_side is None, "nothing is approximated where all is to be exact"


def test_what_was_loaded_is_known(clip_folder: Path) -> None:
    info = loaded(clip_folder).info
    assert (info.id, info.dtype) == (str(clip_folder), "float32")
    assert info.revision.startswith("files-")


def test_broken_weights_are_a_model_error(tmp_path: Path, clip_folder: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text((clip_folder / "open_clip_config.json").read_text())
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="could not be loaded"):
        loaded(tmp_path)


def test_weights_that_are_missing_are_not_drawn_at_random(tmp_path: Path, clip_folder: Path) -> None:
    shutil.copytree(clip_folder, tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "open_clip_model.safetensors")
    weights.pop("ln_final.weight" if "ln_final.weight" in weights else "text.ln_final.weight")
    save_file(weights, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(ModelError, match=r"could not be loaded: .*ln_final.weight"):
        loaded(tmp_path)


# -- captions ----------------------------------------------------------------------------------------------------------


def reader(folder: Path, *, in_pieces: bool = True) -> CaptionReader:
    return loaded(folder).reader(in_pieces=in_pieces)


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_that_just_fills_the_context_is_whole(clip_folders: dict[str, Path], kind: str) -> None:
    own = reader(clip_folders[kind])
    assert len(own.read(" ".join(["dog"] * 22)).pieces) == 1
    assert len(own.read(" ".join(["dog"] * 23)).pieces) == 2


def test_a_long_caption_is_cut_at_sentence_ends_and_pieces_weigh_what_they_have_of_it(clip_folder: Path) -> None:
    sentences = ["A dog on the red gradient.", "The dog with a blue dog, and the red dog of the blue."]
    caption = reader(clip_folder).read(" ".join(sentences * 2))
    assert [piece.text for piece in caption.pieces] == [" ".join(sentences)] * 2
    assert [piece.weight for piece in caption.pieces] == [len(piece.tokens) - 2 for piece in caption.pieces]
    assert not caption.truncated


def test_or_its_end_is_left_out_and_it_says_so(clip_folder: Path) -> None:
    own = reader(clip_folder, in_pieces=False)
    long = own.read("a dog " * 30)
    assert (len(long.pieces), long.truncated) == (1, True)
    assert (len(own.read("a dog").pieces), own.read("a dog").truncated) == (1, False)
