"""A text rewriter on a chat model."""

import mmsynth as mm
from mmsynth.chat_stage import WritesText


class Rewrite(WritesText, mm.Captioner):
    """Say each caption in other words; the earlier one stays in the record."""

    instruction: str = "Say this in plain words:"

    async def process_one(self, sample: mm.Sample) -> mm.Result:
        if not sample.caption:
            return mm.Dropped("no_caption", sample)
        reply = await self.ask(f"{self.instruction} {sample.caption}", sample)
        return sample.with_caption(reply.text, model=self.model) if reply.text else mm.Dropped("empty_caption", sample)
