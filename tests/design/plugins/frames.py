"""Eight frames of a GIF to one caption; after `frames: 8`."""

import mmsynth as mm
from mmsynth.chat_stage import WritesText


class WhatHappens(WritesText, mm.Captioner):
    """Say what happens in the frames of each sample."""

    prompt: str = "These are frames of one clip, in order. What happens?"

    async def process_one(self, sample: mm.Sample) -> mm.Result:
        names = [frame["name"] for frame in sample.record.get("frames", ())]
        if not names:
            return mm.Dropped("no_frames", sample)
        reply = await self.ask(self.prompt, sample, images=names)
        told = sample.with_messages([self.user(self.prompt, names), self.assistant(reply.text)])
        return told.with_caption(reply.text, model=self.model, prompt=self.prompt, stage=self.step_name)
