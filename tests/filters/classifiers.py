"""A small image classifier with random weights, as a folder that transformers loads."""

from pathlib import Path

LABELS = ["normal", "nsfw", "Has Watermark"]


def save_vit(folder: Path, kind: str = "single_label_classification") -> Path:
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    labels = dict(enumerate(LABELS))
    config = ViTConfig(image_size=32, patch_size=8, id2label=labels, problem_type=kind, **sizes)
    torch.manual_seed(7)
    model = ViTForImageClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
