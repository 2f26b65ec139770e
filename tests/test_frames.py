"""Frames: the right ones, each decoded once, of whatever moves; what cannot be decoded is said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mmsynth as mm
from mmsynth.errors import ImageError, PluginError, SampleError, SourceError
from mmsynth.frames import Frame, Frames, animation_frames, video_frames, with_frames
from mmsynth.image import Image
from mmsynth.sample import Sample
from mmsynth.testing import check_stage, photo_samples
from tests.moving import animation, index_shown, video
from tests.sources.source_files import write_tar

VIDEOS = {
    "mp4": ("mp4", "libx264", {}),
    "mkv": ("matroska", "libx264", {}),
    "mp4 with a key frame seldom": ("mp4", "libx264", {"gop_size": 250}),
    "webm": ("webm", "libvpx-vp9", {}),
    "mov": ("mov", "libx264", {}),
    "avi": ("avi", "mpeg4", {"bit_rate": 4_000_000}),
    "avi with frames out of order": ("avi", "mpeg4", {"bit_rate": 4_000_000, "max_b_frames": 2}),
}


def indices(frames: list[Frame]) -> list[int]:
    assert [index_shown(frame.image.pixels()) for frame in frames] == [frame.index for frame in frames]
    return [frame.index for frame in frames]


@pytest.mark.parametrize("format", ["GIF", "WEBP", "AVIF", "PNG"])
def test_frames_of_animations_are_spread_from_the_first_to_the_last(format: str) -> None:
    image = Image(animation(format, 20, duration=[100] * 10 + [200] * 10))
    frames = animation_frames(image, 8)
    assert indices(frames) == [0, 3, 5, 8, 11, 14, 16, 19]
    assert [round(frame.time_s, 3) for frame in frames] == [0.0, 0.3, 0.5, 0.8, 1.2, 1.8, 2.2, 2.8]
    assert indices(animation_frames(image, 1)) == [0]
    assert indices(animation_frames(image, 50)) == list(range(20))
    assert (image.width, image.height, image.format) == (24, 16, format)


@pytest.mark.parametrize("kind", VIDEOS)
def test_frames_of_videos_are_those_that_are_shown_then(kind: str) -> None:
    container, codec, options = VIDEOS[kind]
    frames = video_frames(video(container, codec, **options), 8)
    assert indices(frames) == [0, 6, 11, 17, 22, 28, 33, 39]
    assert [round(frame.time_s, 1) for frame in frames] == [0.0, 0.6, 1.1, 1.7, 2.2, 2.8, 3.3, 3.9]
    assert indices(video_frames(video(container, codec, frames=3, **options), 8)) == [0, 1, 2]


def test_what_does_not_move_has_no_frames() -> None:
    assert animation_frames(Image(animation("GIF", 1)), 8) == []
    (sample,) = photo_samples(1)
    assert with_frames(sample, 8) is sample
    assert with_frames(Sample("text only"), 8) == Sample("text only")


@pytest.mark.parametrize("harm", [b"", b"\0\0\0\x20ftypisom and no more"])
def test_what_cannot_be_decoded_is_an_error(harm: bytes) -> None:
    with pytest.raises(SampleError) as caught:
        video_frames(harm, 8)
    assert caught.value.reason == "video_unreadable"
    whole = animation("GIF", 20, (100, 100))
    with pytest.raises(ImageError):
        animation_frames(Image(whole[: len(whole) // 2]), 8)


def test_sound_alone_has_no_frames() -> None:
    import io

    import av
    import numpy as np

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as out:
        stream: Any = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    with pytest.raises(SampleError, match="only sound"):
        video_frames(buffer.getvalue(), 8)


def test_the_stage_keeps_the_contract() -> None:
    moving = [Sample(f"k{i}", Image(animation("GIF", 5 + i)), "a gif") for i in range(2)]
    clip = Sample("clip", members={"mp4": video()})
    stills = photo_samples(2)
    results = check_stage(Frames(number=4), [*moving, clip, *stills])
    counts = [len(result.images) for result in results if isinstance(result, Sample)]
    assert counts == [4, 4, 4, 0, 0]
    shown = results[2]
    assert isinstance(shown, Sample)
    assert shown.image == shown.images["frame00"]


def test_a_gif_in_a_run(tmp_path: Path) -> None:
    gif = animation("GIF", 20)
    tar = write_tar(tmp_path / "in.tar", [("k.gif", gif), ("k.txt", b"a ramp"), ("l.png", picture_bytes())])
    mm.read(tar).frames(8).write(tmp_path / "out")
    first, second = mm.read(tmp_path / "out").take(2)
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert first.image is not None
    assert first.image.data == gif
    assert [*first.images] == [f"frame{i:02d}" for i in range(8)]
    assert {image.format for image in first.images.values()} == {"JPEG"}
    assert first.record["frames"][3] == {"name": "frame03", "time_s": 0.8, "index": 8}
    assert first.record["steps"][0]["stage"] == "frames"
    assert (second.images, "frames" in second.record) == ({}, False)


def test_frames_taken_again_are_those_of_the_second_time(tmp_path: Path) -> None:
    tar = write_tar(tmp_path / "in.tar", [("k.gif", animation("GIF", 20))])
    mm.read(tar).frames(8).write(tmp_path / "out")
    (sample,) = mm.read(tmp_path / "out").frames(3).take(1)
    assert isinstance(sample, Sample)
    assert [*sample.images] == ["frame00", "frame01", "frame02"]
    assert len(sample.record["frames"]) == 3


def picture_bytes() -> bytes:
    (sample,) = photo_samples(1)
    assert sample.image is not None
    return sample.image.data


def run_of(source: mm.Pipeline, out: Path) -> dict[str, Sample]:
    source.write(out)
    return {sample.key: sample for sample in mm.read(out) if isinstance(sample, Sample)}


def test_a_tar_with_videos(tmp_path: Path) -> None:
    clip = video()
    members = [
        ("both.jpg", picture_bytes()), ("both.mp4", clip), ("alone.MP4", clip), ("alone.txt", b"grey"),
        ("broken.png", picture_bytes()), ("broken.mp4", clip[:1000]),
    ]  # fmt: skip
    tar = write_tar(tmp_path / "in.tar", members)
    found = run_of(mm.read(tar, frames=4), tmp_path / "out")
    assert [len(sample.images) for sample in found.values()] == [4, 4, 0]
    assert found["both"].image == Image(picture_bytes())
    assert found["alone"].image == found["alone"].images["frame00"]
    assert found["alone"].record["synthetic"] == {"image": False, "caption": False, "images": []}
    assert (found["both"].members, found["alone"].members) == ({"mp4": clip}, {"MP4": clip})
    assert found["broken"].record["source"]["origin"]["repaired"] == ["frames_unreadable"]
    assert found["broken"].members["mp4"] == clip[:1000]


def test_a_folder_with_videos(tmp_path: Path) -> None:
    files = {"a.gif": animation("GIF", 9), "b.mp4": video(), "b.txt": b"grey", "c.jpg": picture_bytes(), "d.avi": b"x"}
    (tmp_path / "in").mkdir()
    for name, data in files.items():
        (tmp_path / "in" / name).write_bytes(data)
    found = run_of(mm.read(tmp_path / "in", frames=4), tmp_path / "out")
    assert {key: len(sample.images) for key, sample in found.items()} == {"a": 4, "b": 4, "c": 0}
    assert (found["b"].caption, found["b"].members["mp4"]) == ("grey", files["b.mp4"])
    assert found["b"].record["frames"][-1] == {"name": "frame03", "time_s": 3.9, "index": 39}
    assert mm.read(tmp_path / "in", frames=4).write(tmp_path / "out").failed == {"image_unreadable": 1}


def test_a_folder_of_videos_alone_says_how_to_read_it(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(video())
    with pytest.raises(SourceError, match="videos are read with frames"):
        mm.read(tmp_path).take(1)
    assert len(mm.read(tmp_path, frames=2).take(1)) == 1


def test_a_table_that_names_videos(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(video())
    (tmp_path / "t.jsonl").write_text(json.dumps({"image": "b.mp4", "caption": "grey"}))
    (sample,) = mm.read(tmp_path / "t.jsonl", frames=5).take(1)
    assert isinstance(sample, Sample)
    assert (len(sample.images), [*sample.members]) == (5, ["mp4"])


def test_without_pyav_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PluginError, match=r"pip install 'mmsynth\[video\]'"):
        video_frames(b"", 8)


def test_sources_load_no_pyav() -> None:
    code = "import sys, mmsynth.sources.folder; sys.exit('av' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
