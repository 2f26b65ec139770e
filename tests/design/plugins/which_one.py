"""Two samples → "which one shows …"."""

from collections.abc import Sequence

import mmsynth as mm


class WhichOne(mm.Grouping):
    """Of a pair make one sample with both pictures, and a question that only one of them answers; after `pair: 1`."""

    def process_group(self, samples: Sequence[mm.Sample]) -> list[mm.Result]:
        own, other = samples
        if own.image is None or other.image is None or own.caption == other.caption:
            return [mm.Dropped("no_question", own), mm.Dropped("joined")]
        first = self.rng_of(own).random() < 0.5
        shown = ["", "other"] if first else ["other", ""]
        question = f"Which one shows {own.caption}?"
        content = [*({"type": "image", "image": name} for name in shown), {"type": "text", "text": question}]
        answer = {"type": "text", "text": "The first one." if first else "The second one."}
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": [answer]}]
        return [own.with_image(other.image, "other").with_messages(messages), mm.Dropped("joined")]
