"""The filter perceptual_hash."""

import pytest

from mmsynth.errors import ImageError, SampleError
from mmsynth.image import Image
from mmsynth.sample import Sample
from mmsynth.testing import check_stage
from mmsynth_filters.perceptual_hash import PerceptualHash
from tests.photos import photographs


def test_every_sample_gets_its_hash_and_goes_on() -> None:
    samples = [Sample(path.stem, Image.from_file(path)) for path in photographs(4)]
    results = check_stage(PerceptualHash(), samples)
    found = [result.record["phash"] for result in results if isinstance(result, Sample)]
    assert len(found) == 4
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in found)


def test_what_is_no_image_fails_alone() -> None:
    with pytest.raises(SampleError, match="no_image"):
        PerceptualHash().prepare(Sample("k", caption="text only"))
    with pytest.raises(ImageError, match="image_unreadable"):
        PerceptualHash().prepare(Sample("k", Image(b"not an image")))
