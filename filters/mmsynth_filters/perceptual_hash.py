"""The filter `perceptual_hash`: 64 bits of each picture, to find near-duplicates by afterwards."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from mmsynth.near_duplicates.hashes import NO_HASH, check_hashing, hash_of, to_hex
from mmsynth.sample import Result, Sample
from mmsynth.stage import Filter


class PerceptualHash(Filter):
    """Put a perceptual hash of the image into the record: `phash`, 16 hex digits. Nothing is dropped.

    The hashes of a shard lie beside it, too, as `00000_phash.npy` (uint64): `select` finds near-duplicates by them.
    Two pictures that differ in few bits are near-duplicates: recompressed, resized, framed. imagehash's phash after
    uniform borders are cut off. Flat pictures, of one colour or nearly, and stripes have none: `phash` is null, and 0
    in the file. Samples without an image fail as `no_image`.
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
