"""A CLIP model that is not there is one clear ModelError, before any work is done."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mmsynth.errors import ModelError
from mmsynth.models.clip.find import find_clip
from mmsynth.models.clip.model import load_tokenizer


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No hub and an empty cache, whatever machine this is."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("ViT-B32/openai", r"no model 'ViT-B32'. Did you mean 'ViT-B-32'\?.* hf-hub:ViT-B32/openai"),
        ("vit-b-32/openai", "Did you mean 'ViT-B-32'"),
        ("nanoo", "no model 'nanoo'.*nano, a local folder, hf-hub:owner/name or NAME/PRETRAINED"),
        ("ViT-B-32", "'ViT-B-32' needs its weights. Choose ViT-B-32/PRETRAINED of: openai, laion400m_e31"),
        ("ViT-B-32/laion2b_s34b", "Did you mean 'laion2b_s34b_b79k'"),
        ("./no/such/folder", "there is no folder 'no/such/folder'"),
        ("local-dir:models/clip", "there is no folder 'models/clip'"),
    ],
)
def test_a_wrong_name_says_what_was_meant(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        find_clip(model)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    "model", ["ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/openai", "ViT-B-16-SigLIP/webli", "hf-hub:laion/no-such-model"]
)
def test_weights_that_cannot_be_fetched_are_one_error_before_any_work(model: str) -> None:
    with pytest.raises(
        ModelError, match=f"{model.removeprefix('hf-hub:')}' could not be found or downloaded"
    ) as caught:
        find_clip(model)
    assert "\n" not in str(caught.value)


def test_a_folder_must_be_in_open_clips_format(tmp_path: Path, clip_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"has no open_clip_config\.json"):
        find_clip(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"could not be read: KeyError\('model_cfg'\)"):
        find_clip(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text((clip_folder / "open_clip_config.json").read_text())
    with pytest.raises(ModelError, match=r"has no weights: put an open_clip_model\.safetensors into"):
        find_clip(str(tmp_path))


def test_a_missing_tokenizer_is_found_out_before_any_work(tmp_path: Path, clip_folders: dict[str, Path]) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        (tmp_path / name).write_bytes((clip_folders["eos"] / name).read_bytes())
    with pytest.raises(ModelError, match="its tokenizer could not be found"):
        load_tokenizer(find_clip(str(tmp_path)))


@pytest.mark.usefixtures("offline")
def test_a_missing_text_tower_is_found_out_before_any_work(tmp_path: Path, clip_folders: dict[str, Path]) -> None:
    config = json.loads((clip_folders["transformers"] / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "nobody/no-such-tower"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(
        ModelError, match="needs the text tower 'nobody/no-such-tower', which could not be found or downloaded"
    ):
        load_tokenizer(find_clip(str(tmp_path)))


def test_a_local_checkpoint_goes_with_a_models_name(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(2)}, tmp_path / "mine.safetensors")
    found = find_clip(f"ViT-S-32-alt/{tmp_path / 'mine.safetensors'}")
    assert (found.name, found.pretrained) == ("ViT-S-32-alt", str(tmp_path / "mine.safetensors"))
    assert found.revision.startswith("sha256-")


def test_a_folder_may_be_named_open_clips_way(clip_folder: Path) -> None:
    plain, prefixed = find_clip(str(clip_folder)), find_clip(f"local-dir:{clip_folder}")
    assert (
        (plain.name, plain.revision)
        == (prefixed.name, prefixed.revision)
        == (f"local-dir:{clip_folder}", plain.revision)
    )
