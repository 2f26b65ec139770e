"""Real photographs that come with scikit-image and scikit-learn, as samples."""

from functools import cache

import PIL.Image

from mmsynth.image import Image
from mmsynth.sample import Sample


@cache
def photograph(name: str, size: tuple[int, int] | None = None) -> Sample:
    """astronaut (a face), coffee, chelsea (a cat), page (print), …: functions of skimage.data; or china, flower."""
    import skimage.data
    from sklearn.datasets import load_sample_image

    array = load_sample_image(f"{name}.jpg") if name in {"china", "flower"} else getattr(skimage.data, name)()
    picture = PIL.Image.fromarray(array).convert("RGB")
    if size is not None:
        picture = picture.resize(size)
    return Sample(name, Image.from_pixels(picture).encoded("png"))
