"""A three-turn conversation in lockstep."""

from pydantic import Field

import mmsynth as mm
from mmsynth.chat_stage import WritesText


class Dialogue(WritesText, mm.Captioner):
    """Talk with the model about each picture: every turn's question sees the answers before it."""

    questions: tuple[str, ...] = Field(("What is shown?", "What colour is it?", "How many are there?"), min_length=1)

    async def process_one(self, sample: mm.Sample) -> mm.Result:
        messages = []
        for number, question in enumerate(self.questions):
            messages.append(self.user(question, images=[""] if number == 0 else ()))
            reply = await self.chat(self.request(messages, sample))
            messages.append(self.assistant(reply.text))
        return sample.with_messages(messages)
