"""The filter `perceptual_hash`: 64 bits for each picture, to find near-duplicates later."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mmsynth.near_duplicates.hashes import NO_HASH, check_hashing, hash_of, to_hex
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter


class PerceptualHash(Filter):
    """Put a perceptual hash of the image into the record: `phash`, 16 hex digits. Drops nothing.

    The hashes of a shard also lie beside it as `00000_phash.npy` (uint64), and `select` uses them to find
    near-duplicates. Pictures whose hashes differ in few bits are near-duplicates: recompressed, resized, framed. The
    hash is imagehash's phash after uniform borders are cut off. Flat pictures (of about one colour) and stripes have no
    hash: `phash` is null, and 0 in the file. Samples without an image fail as `no_image`.
    """

    judges = frozenset({"image"})

    can_give_arrays: ClassVar[Mapping[str, str]] = {"phash": ""}

    def check(self) -> None:
        check_hashing()

    def prepare(self, sample: Sample) -> int | None:
        return hash_of(sample.required_image().pixels())

    def array_names(self) -> tuple[str, ...]:
        return ("phash",)

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[int | None]) -> list[Result]:
        return [
            sample.with_record(phash=None if value is None else to_hex(value)).with_array(
                "phash", np.array(NO_HASH if value is None else value, dtype=np.uint64)
            )
            for sample, value in zip(batch, prepared, strict=True)
        ]
