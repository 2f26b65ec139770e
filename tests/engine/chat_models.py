"""Chat models for tests of the engine: they answer exactly, and remember how they were asked."""

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import PrivateAttr

import mmsynth as mm
from mmsynth.errors import SampleError
from mmsynth.models.chat import BatchChatModel, Reply, Request, Usage, ask
from mmsynth.models.files import ModelInfo


def text_of(request: Request) -> str:
    return " / ".join(part["text"] for message in request.messages for part in message["content"] if "text" in part)


def request(text: str) -> Request:
    return Request([{"role": "user", "content": [{"type": "text", "text": text}]}])


class Shouts(BatchChatModel):
    """Answers in capitals, a batch at a time. `room` requests fit the device; `refuses` is a text that it cannot read."""

    info = ModelInfo("shouts", "1", "float32")

    def __init__(self, room: int = 1000, refuses: str = "") -> None:
        self.room, self.refuses = room, refuses
        #: of every call: the requests' texts
        self.asked: list[list[str]] = []

    def assemble(self, requests: Sequence[Request]) -> list[str]:
        return [text_of(one) for one in requests]

    def answer(self, requests: Sequence[Request], assembled: list[str]) -> list[Any]:
        self.asked.append(list(assembled))
        if len(assembled) > self.room:
            raise MemoryError("no room for so many")
        return [
            SampleError("refused", text) if self.refuses and self.refuses in text
            else Reply(text.upper(), usage=Usage(len(text), 1))
            for text in assembled
        ]  # fmt: skip


class Dialogue(mm.Captioner):
    """Talk as many turns as the sample's key says, each after the last reply; some of them wait for something else."""

    _model: Shouts = PrivateAttr(default_factory=Shouts)

    def of(self, model: Shouts) -> "Dialogue":
        self._model = model
        return self

    def batch_model(self) -> Shouts:
        return self._model

    async def process_one(self, sample: mm.Sample) -> mm.Sample:
        if sample.key.startswith("broken"):
            raise ValueError("this one is broken")
        text = (await ask(self._model, request(f"{sample.key} what"))).text
        for turn in range(int(sample.key[-1]) % 3):
            if turn:
                await asyncio.sleep(0.002 * int(sample.key[-1]))
            text = (await ask(self._model, request(f"{sample.key} turn {turn} after {text[:3]}"))).text
        return sample.with_caption(text)
