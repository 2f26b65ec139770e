"""Small classifiers with random weights, as folders that transformers loads; their labels are only names."""

from pathlib import Path

LABELS = ["normal", "nsfw", "Has Watermark"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "red", "cat", "on", "the", "lawn"]


def save_vit(folder: Path, kind: str = "single_label_classification") -> Path:
    """An image classifier."""
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


def save_bert(folder: Path, kind: str = "single_label_classification") -> Path:
    """A text classifier, with a context of 16 tokens and the labels of a hub model."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    built = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=built, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]")
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    labels = {0: "neutral", 1: "toxic", 2: "insult"}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, id2label=labels, problem_type=kind, **sizes)
    torch.manual_seed(5)
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    return folder
