"""An open_clip model on its device: images and tokens in, cosines and embeddings out. Does not know samples."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmsynth.errors import ModelError
from mmsynth.image import Image
from mmsynth.models.clip.find import ClipFiles
from mmsynth.models.clip.text import CaptionReader, Tokens
from mmsynth.models.devices import dtype_name
from mmsynth.models.files import ModelInfo, first_line
from mmsynth.models.weights import in_one_line

if TYPE_CHECKING:
    import PIL.Image
    import torch

#: height × width × 3, resized and cropped for the model
Pixels = npt.NDArray[np.uint8]
#: [width], normalized to length one
Embedding = npt.NDArray[np.float16]

# cast the whole model to its dtype once; open_clip's plain "bf16" keeps some layers in float32 for training
_PRECISIONS = {"float32": "fp32", "float16": "pure_fp16", "bfloat16": "pure_bf16"}


def load_tokenizer(found: ClipFiles) -> Any:
    """The tokenizer that open_clip pairs with the model. Raises ModelError."""
    import open_clip

    try:
        return open_clip.get_tokenizer(found.tokenizer)
    except Exception as error:
        raise ModelError(
            f"model '{found.id}': its tokenizer could not be found or downloaded: {first_line(error)}"
        ) from error


class ClipModel:
    """An open_clip model on its device, in its dtype."""

    def __init__(self, found: ClipFiles, device: str, dtype: "torch.dtype", *, exact: bool = True) -> None:
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2

        from mmsynth.models.clip.towers import CausalText, pool_before_last_block

        try:  # open_clip and its libraries raise many kinds of errors for broken files or those of another model
            self._model = open_clip.create_model(
                found.name,
                found.pretrained,
                precision=_PRECISIONS[dtype_name(dtype)],
                device=device,
                force_quick_gelu=found.quick_gelu,
                force_preprocess_cfg=dict(found.preprocessing),
                require_pretrained=True,
            )
            preprocess = image_transform_v2(PreprocessCfg(**self._model.visual.preprocess_cfg), is_train=False)
        except Exception as error:
            raise ModelError(f"model '{found.id}' could not be loaded: {in_one_line(error)}") from error
        # its weights stay as if they were to be trained: without requires_grad torch multiplies the attention's strided
        # inputs by a copy of the weights for each text, which doubles the text tower's time on a CPU
        self._model.eval()
        pool_before_last_block(self._model.visual)
        self.info = ModelInfo(found.id, found.revision, dtype_name(dtype))
        self._found, self._device, self._dtype = found, device, dtype
        # all transforms but the last two work on PIL images; those two, to-tensor and normalise, run on the device
        *self._resize, _to_tensor, self._normalize = preprocess.transforms
        self._normalize.inplace = True
        self._on_tensors = None if exact else _on_tensors(self._resize)
        self._causal = CausalText.of(self._model)

    def reader(self, *, in_pieces: bool = True) -> CaptionReader:
        """The reader of captions for this model. Raises ModelError if its tokenizer is not found."""
        tokenizer = load_tokenizer(self._found)
        context = int(tokenizer.context_length or getattr(self._model, "context_length", 0) or 0)
        return CaptionReader(tokenizer, context, self.positions_used, in_pieces=in_pieces)

    @property
    def least_side(self) -> int | None:
        """The side, in pixels, that is enough for `pixels_for`, or None if it needs the picture in full size."""
        return max(self._on_tensors.size) if self._on_tensors else None

    def pixels_of(self, image: Image) -> Pixels:
        """Decode an image no larger than the model needs, resize and crop it. Raises ImageError."""
        if self._on_tensors:
            return self._on_tensors(image.array(self.least_side))
        return self.pixels_for(image.pixels())

    def pixels_for(self, picture: "PIL.Image.Image") -> Pixels:
        """The model's resize and crop: in PIL if exact, else by torch's vectorized kernel, one level off at most."""
        if self._on_tensors:
            return self._on_tensors(np.asarray(picture))
        for transform in self._resize:
            picture = transform(picture)
        return np.asarray(picture)

    def positions_used(self, tokens: Tokens) -> int:
        """How many positions, from the first, decide the embedding."""
        return self._causal.pooled_at(tokens) + 1 if self._causal else len(tokens)

    def compare(
        self, images: Sequence[Pixels], texts: Sequence[Sequence[Tokens]], texts_per_batch: int
    ) -> list[tuple[list[float], Embedding]]:
        """For each image, its cosine with each of its texts, and its embedding. Embeds equal texts once.

        An image without texts gets its embedding alone.
        """
        import torch

        if not images:
            return []
        unique = sorted({tokens for own in texts for tokens in own}, key=lambda tokens: (len(tokens), tokens))
        row = {tokens: i for i, tokens in enumerate(unique)}
        image_rows = [i for i, own in enumerate(texts) for _ in own]
        text_rows = [row[tokens] for own in texts for tokens in own]
        with torch.inference_mode():
            rows = torch.tensor([image_rows, text_rows]).to(self._device, non_blocking=True)
            image_features = self.embed_images(images)
            flat: Iterator[float] = iter(())
            if unique:
                text_features = torch.cat([self._embed_texts(batch) for batch in by_length(unique, texts_per_batch)])
                flat = iter((image_features[rows[0]] * text_features[rows[1]]).sum(dim=-1).tolist())
            embeddings = image_features.half().cpu().numpy()
        return [([next(flat) for _ in own], row) for own, row in zip(texts, embeddings, strict=True)]

    def embed_images(self, images: Sequence[Pixels]) -> "torch.Tensor":
        """Embeddings of length one, [images, width]."""
        import torch
        from torch.nn.functional import normalize

        batch = torch.from_numpy(np.stack(images))
        if self._device.startswith("cuda"):
            batch = batch.pin_memory()
        batch = self.normalized(batch.to(self._device, non_blocking=True))
        return normalize(self._model.encode_image(batch, normalize=False).float(), dim=-1)

    def normalized(self, batch: "torch.Tensor") -> "torch.Tensor":
        """Turn bytes [images, height, width, 3] into the image tower's input."""
        import torch

        pictures = batch.permute(0, 3, 1, 2)
        ready = torch.empty(pictures.shape, dtype=self._dtype, device=batch.device)
        # one by one on a CPU, because its cache holds one image; that halves the time
        at_once = 1 if batch.device.type == "cpu" else len(batch)
        for into, part in zip(torch.split(ready, at_once), torch.split(pictures, at_once), strict=True):
            into.copy_(self._normalize(part.contiguous().to(torch.float32).div_(255)))
        return ready

    def _embed_texts(self, texts: Sequence[Tokens]) -> "torch.Tensor":
        import torch
        from torch.nn.functional import normalize

        lengths = [len(tokens) for tokens in texts]
        padded = np.zeros((len(texts), max(lengths)), dtype=np.int64)
        for line, tokens in zip(padded, texts, strict=True):
            line[: len(tokens)] = tokens
        batch = torch.from_numpy(padded).to(self._device, non_blocking=True)
        if self._causal:
            last = torch.tensor(lengths).to(self._device, non_blocking=True) - 1
            return normalize(self._causal.embed(batch, last).float(), dim=-1)
        return normalize(self._model.encode_text(batch, normalize=False).float(), dim=-1)


class TensorResize:
    """Resize and crop bytes as torchvision's transforms do for PIL images, several times as fast."""

    def __init__(self, resize: Any, crop: Any | None) -> None:
        #: one number for the shorter side, or height and width
        self.size: list[int] = [resize.size] if isinstance(resize.size, int) else list(resize.size)
        self._interpolation = resize.interpolation
        self._crop = list(crop.size) if crop is not None else None

    def __call__(self, picture: Pixels) -> Pixels:
        import torch
        from torchvision.transforms.v2 import functional

        # torch warns of read-only arrays
        pixels = torch.from_numpy(picture if picture.flags.writeable else picture.copy()).permute(2, 0, 1)
        pixels = functional.resize(pixels, self.size, self._interpolation, antialias=True)
        if self._crop is not None:
            pixels = functional.center_crop(pixels, self._crop)
        found: Pixels = pixels.permute(1, 2, 0).numpy()
        return found


def _on_tensors(transforms: Sequence[Any]) -> TensorResize | None:
    """The same transforms on bytes if they are torchvision's resize and crop. None for others, such as padding ones."""
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    found = [one for one in transforms if type(one).__module__.startswith("torchvision.")]
    # skip transforms that convert to RGB: pictures are RGB already
    others = [one for one in transforms if one not in found and "convert" not in _name(one)]
    resize, crop = (found[0] if found else None), (found[1] if len(found) > 1 else None)
    known = not others and type(resize) is Resize and (crop is None or type(crop) is CenterCrop) and len(found) <= 2
    if resize is None or not known or resize.max_size is not None:
        return None
    smooth = resize.interpolation in {InterpolationMode.BICUBIC, InterpolationMode.BILINEAR}
    return TensorResize(resize, crop) if smooth else None


def _name(transform: Any) -> str:
    return str(getattr(transform, "__name__", type(transform).__name__)).lower()


def by_length(texts: Sequence[Tokens], size: int) -> list[list[Tokens]]:
    """Split sorted texts into batches of at most `size`, no text longer than 16 or 1.5 times the batch's shortest."""
    batches: list[list[Tokens]] = []
    for tokens in texts:
        fits = batches and len(batches[-1]) < size and len(tokens) <= max(16, 1.5 * len(batches[-1][0]))
        if not fits:
            batches.append([])
        batches[-1].append(tokens)
    return batches
