"""Eight frames of a GIF, or of a video, to one caption: the frames go to the model in one message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmsynth as mm
from mmsynth.models.chat import BatchChatModel, ModelSpec, Reply, Request
from mmsynth.models.files import ModelInfo
from mmsynth.sample import Sample
from tests.design.plugins.frames import WhatHappens
from tests.moving import animation, index_shown, video
from tests.sources.source_files import picture, write_tar


class Seeing:
    """Its model says which frame each picture of the message is."""

    def check(self, spec: ModelSpec) -> None:
        """It is always there."""

    def load(self, spec: ModelSpec, device: str) -> "SeeingModel":
        return SeeingModel()


class SeeingModel(BatchChatModel):
    info = ModelInfo("seeing", "1", "none")

    def assemble(self, requests: Sequence[Request]) -> list[list[int]]:
        return [[self._frame(request, part) for part in request.messages[-1]["content"][:-1]] for request in requests]

    def answer(self, requests: Sequence[Request], assembled: list[list[int]]) -> list[Reply | Exception]:
        return [Reply("frames " + ", ".join(map(str, seen))) for seen in assembled]

    def _frame(self, request: Request, part: dict[str, Any]) -> int:
        assert part["type"] == "image"
        return index_shown(request.images[part["image"]].pixels())


def test_eight_frames_of_a_gif_go_to_the_model_in_one_message(tmp_path: Path) -> None:
    members = [("gif.gif", animation("GIF", 20)), ("clip.mp4", video()), ("still.png", picture())]
    tar = write_tar(tmp_path / "in.tar", members)
    stage = WhatHappens(engine="tests.design.test_frames:Seeing", model="seeing")
    report = mm.read(tar).frames(8).caption(stage).write(tmp_path / "out", device="cpu")
    assert (report.kept, report.dropped) == (2, {"no_frames": 1})
    gif, clip = (sample for sample in mm.read(tmp_path / "out") if isinstance(sample, Sample))
    assert gif.caption == "frames 0, 3, 5, 8, 11, 14, 16, 19"
    assert clip.caption == "frames 0, 6, 11, 17, 22, 28, 33, 39"
    asked = gif.record["messages"][0]["content"]
    assert [part["image"] for part in asked if part["type"] == "image"] == [*gif.images]
    assert gif.image is not None
    assert gif.image.data == members[0][1]
    assert gif.record["steps"][0]["stage"] == "frames"
