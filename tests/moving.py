"""Animations and videos for tests: frame i is a plain grey of 6·i."""

import io
from typing import Any

import av
import numpy as np
import PIL.Image

STEP = 6


def picture(index: int, size: tuple[int, int]) -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, (STEP * index,) * 3)


def animation(format: str, frames: int, size: tuple[int, int] = (24, 16), duration: Any = 100) -> bytes:
    buffer = io.BytesIO()
    first, *rest = [picture(i, size) for i in range(frames)]
    lossless = {"lossless": True} if format == "WEBP" else {"quality": 95} if format == "AVIF" else {}
    first.save(buffer, format, save_all=True, append_images=rest, duration=duration, loop=0, **lossless)
    return buffer.getvalue()


def video(container: str = "mp4", codec: str = "libx264", frames: int = 40, **options: Any) -> bytes:
    """Ten frames a second, a key frame every twelve."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as out:
        stream: Any = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 12
        for name, value in options.items():
            setattr(stream.codec_context, name, value)
        for i in range(frames):
            grey = np.full((48, 64, 3), STEP * i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        out.mux(stream.encode())
    return buffer.getvalue()


def index_shown(pixels: PIL.Image.Image) -> int:
    """Which frame a picture is."""
    return round(float(np.asarray(pixels).mean()) / STEP)
