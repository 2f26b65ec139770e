"""Adds frames of videos and animations to a source's samples, in threads, in the source's order."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from mmsynth.errors import ImageError, SampleError
from mmsynth.frames import with_frames
from mmsynth.sample import Sample
from mmsynth.sources.base import Unreadable
from mmsynth.sources.captions import note


def framed(reads: Iterable[Sample | Unreadable], number: int | None) -> Iterator[Sample | Unreadable]:
    """Add `number` frames of its video or animation to each sample. If `number` is None, change nothing.

    If the frames cannot be read but the main picture can, the sample goes on without them, and its record says
    `frames_unreadable`.
    """
    if number is None:
        yield from reads
        return
    threads = max(2, min(8, os.cpu_count() or 2))
    waiting: deque[Future[Sample | Unreadable]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="frames") as pool:
        for read in reads:
            waiting.append(pool.submit(_framed, read, number))
            if len(waiting) == 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _framed(read: Sample | Unreadable, number: int) -> Sample | Unreadable:
    if isinstance(read, Unreadable):
        return read
    try:
        return with_frames(read, number)
    except SampleError as error:
        is_picture = read.image is None or read.image.has_header
        if not is_picture and isinstance(error, ImageError):
            return read  # the engine reports the problem, as it does without frames
        source = dict(read.record["source"])
        if not is_picture:
            return Unreadable(read.key, error.reason, error.detail, str(source.get("path", "")))
        repaired = list(source.get("repaired", ()))
        note(repaired, "frames_unreadable")
        return read.with_record(source={**source, "repaired": repaired})
