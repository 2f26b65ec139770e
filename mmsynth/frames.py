"""Frames of animations and short videos: `frame00`, `frame01`, … as further pictures.

PIL reads animations (GIF, WebP, AVIF, APNG), PyAV reads videos. Frames are spread evenly from the first to the last.
Each is decoded once, and memory holds one decoded frame at a time. Does not know what a model does with them.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from mmsynth.errors import PluginError, SampleError
from mmsynth.image import MAX_PIXELS, Image, decoding, room
from mmsynth.rgb import to_rgb
from mmsynth.sample import Result, Sample
from mmsynth.stage import Grouping

if TYPE_CHECKING:
    import PIL.Image

VIDEO_EXTENSIONS = ("mp4", "mkv", "webm", "mov", "avi")
#: frame names have two digits
MOST_FRAMES = 100
_ANIMATED = frozenset({"GIF", "WEBP", "AVIF", "PNG"})
#: formats that give a frame's duration only after decoding it
_DURATION_WHEN_LOADED = frozenset({"WEBP", "AVIF"})
_FORMAT, _QUALITY = "jpg", 95


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded frame, its number in the video or animation, and the time at which it is shown."""

    image: Image
    index: int
    time_s: float


class Frames(Grouping):
    """Add `number` frames of each sample's video or animation as further pictures: `frame00`, `frame01`, …

    A video is a member called mp4, mkv, webm, mov or avi. Without one, the stage uses the main picture if it is an
    animation (GIF, WebP, AVIF, APNG). Frames are spread evenly, and include the first and the last. If there are fewer
    than `number`, the stage takes all. `record["frames"]` says which frame each is and when it is shown. If a sample
    has no main picture, the first frame becomes that too. Still pictures stay unchanged. A video or an animation that
    cannot be decoded fails the sample. Videos need PyAV: pip install 'mmsynth[video]'.
    """

    main: ClassVar[str] = "number"

    number: int = Field(ge=1, le=MOST_FRAMES, description="frames per video or animation")

    def prepare(self, sample: Sample) -> Sample:
        return with_frames(sample, self.number)

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Sample]) -> list[Result]:
        return list(prepared)


def with_frames(sample: Sample, number: int) -> Sample:
    """`sample` with `number` frames of its video or animation, or unchanged if it has neither. Raises SampleError.

    A video in place of the main picture becomes a member.
    """
    if sample.image is not None and (extension := video_extension(sample.image.data)):
        sample = replace(sample, image=None, members={**sample.members, extension: sample.image.data})
    found = _frames_of(sample, number)
    if not found:
        return sample
    earlier = {str(entry.get("name")) for entry in sample.record.get("frames", ())}
    images = {name: image for name, image in sample.images.items() if name not in earlier}
    names = [f"frame{i:02d}" for i in range(len(found))]
    about = [{"name": n, "time_s": round(f.time_s, 6), "index": f.index} for n, f in zip(names, found, strict=True)]
    images |= {name: frame.image for name, frame in zip(names, found, strict=True)}
    image = found[0].image if sample.image is None else sample.image
    return replace(sample, image=image, images=images).with_record(frames=about)


def video_extension(data: bytes) -> str | None:
    """The extension of a video by its content, or None if it is not a video."""
    if data[4:8] == b"ftyp" and data[8:11] not in (b"avi", b"hei", b"mif", b"msf"):
        return "mov" if data[8:12] == b"qt  " else "mp4"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in data[:64] else "mkv"
    return "avi" if data[:4] == b"RIFF" and data[8:12] == b"AVI " else None


def _frames_of(sample: Sample, number: int) -> list[Frame]:
    for name, data in sample.members.items():
        if name.lower() in VIDEO_EXTENSIONS:
            return video_frames(data, number)
    if sample.image is None or sample.image.is_drawn:
        return []
    return animation_frames(sample.image, number)


def _spread(number: int, total: int) -> list[int]:
    """`number` indices below `total`, spread evenly, with the first and the last. All of them if there are fewer."""
    if number >= total:
        return list(range(total))
    return [0] if number == 1 else [round(i * (total - 1) / (number - 1)) for i in range(number)]


def animation_frames(image: Image, number: int) -> list[Frame]:
    """Frames of an animation, or none for a still picture. Raises ImageError."""
    if image.format not in _ANIMATED:
        return []
    with image.opened() as opened, decoding():
        total = int(getattr(opened, "n_frames", 1))
        if total == 1:
            return []
        with room.taken(opened.width * opened.height):
            return list(_of_animation(opened, _spread(number, total)))


def _of_animation(opened: "PIL.Image.Image", wanted: Sequence[int]) -> Iterator[Frame]:
    shown_s = 0.0
    for index in range(wanted[-1] + 1):
        opened.seek(index)
        if index in wanted or opened.format in _DURATION_WHEN_LOADED:
            opened.load()
        if index in wanted:
            yield Frame(_encoded(to_rgb(opened)), index, shown_s)
        shown_s += float(opened.info.get("duration", 0)) / 1000


def video_frames(data: bytes, number: int) -> list[Frame]:
    """Frames of a video. Raises SampleError(`video_unreadable` | `video_too_large`)."""
    av = _av()
    try:
        with av.open(io.BytesIO(data), metadata_errors="replace") as container:
            if not container.streams.video:
                raise SampleError("video_unreadable", "there is no picture in it, maybe only sound")
            stream = container.streams.video[0]
            pixels = stream.codec_context.width * stream.codec_context.height
            if pixels > MAX_PIXELS:
                raise SampleError("video_too_large", f"{pixels:,} pixels a frame are over {MAX_PIXELS:,}")
            with room.taken(pixels):
                return _of_video(container, stream, number)
    except (av.error.FFmpegError, ValueError, OverflowError, IndexError) as error:
        raise SampleError("video_unreadable", str(error)) from error


def _of_video(container: Any, stream: Any, number: int) -> list[Frame]:
    # read the packets without decoding them: they give the number of frames and when each is shown
    packets = [
        (p.pts, p.pts if p.dts is None else min(p.pts or 0, p.dts), p.is_keyframe)
        for p in container.demux(stream)
        if p.size and not _is_discarded(p)
    ]
    if not packets:
        raise SampleError("video_unreadable", "there is no frame in it")
    shown = sorted({pts for pts, _, _ in packets if pts is not None})
    if len(shown) == len(packets):
        keys = {pts: start for pts, start, is_key in packets if is_key}
        wanted = _spread(number, len(shown))
        found = list(_by_seeking(container, stream, {shown[index]: index for index in wanted}, keys))
        if len(found) == len(wanted):
            return found
    return list(_in_sequence(container, stream, _spread(number, len(packets))))


def _by_seeking(container: Any, stream: Any, wanted: dict[int, int], keys: dict[int, int]) -> Iterator[Frame]:
    """Seek to each frame by its time, and decode from the key frame before it.

    Ends early if the file does not match its own index.
    """
    first = next(iter(wanted))
    frames: Iterator[Any] = iter(())
    at: int | None = None
    for pts, index in wanted.items():
        key = max((key for key in keys if key <= pts), default=first)
        if at is None or key > at:
            container.seek(keys.get(key, key), stream=stream)
            frames = container.decode(stream)
        frame = next((frame for frame in frames if frame.pts is not None and frame.pts >= pts), None)
        if frame is None or frame.pts != pts:
            return
        at = pts
        yield Frame(_picture(frame), index, float((pts - first) * stream.time_base))


def _is_discarded(packet: Any) -> bool:
    """Whether an edit list cuts the packet away: it is decoded for later frames, and never shown."""
    return bool(getattr(packet, "is_discard", False))


def _in_sequence(container: Any, stream: Any, wanted: Sequence[int]) -> Iterator[Frame]:
    """Decode all frames and count them, for files that do not say when a frame is shown."""
    container.seek(0)
    every_s = float(1 / stream.average_rate) if stream.average_rate else 0.0
    index = -1
    for index, frame in enumerate(container.decode(stream)):
        if index in wanted:
            yield Frame(_picture(frame), index, index * every_s)
        if index == wanted[-1]:
            return
    if index < 0:
        raise SampleError("video_unreadable", "none of its frames can be decoded")


def _picture(frame: Any) -> Image:
    picture = frame.to_image()
    turn = getattr(frame, "rotation", 0)  # how the phone was held
    return _encoded(picture.rotate(turn, expand=True) if turn else picture)


def _encoded(picture: "PIL.Image.Image") -> Image:
    return Image.from_pixels(picture).encoded(_FORMAT, _QUALITY)


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise PluginError("frames of videos need PyAV: pip install 'mmsynth[video]'") from error
    return av
