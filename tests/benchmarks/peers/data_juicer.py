"""Data-Juicer's image_text_similarity_filter over its own dataset, in one process, on transformers' CLIP.

Runs in an environment that has py-data-juicer.
"""

import sys

# this folder is on the path for `serving`, and must not hide the package that this script is named for
_here = sys.path.pop(0)
import json  # noqa: E402
from pathlib import Path  # noqa: E402

import datasets  # noqa: E402
from data_juicer.core.data import NestedDataset  # noqa: E402
from data_juicer.ops.filter.image_text_similarity_filter import ImageTextSimilarityFilter  # noqa: E402
from data_juicer.utils.mm_utils import SpecialTokens  # noqa: E402

sys.path.append(_here)
from serving import serve  # noqa: E402


def main() -> None:
    about = json.loads(sys.argv[1])
    datasets.disable_caching()  # or the second repetition would be read from the first one's files
    # one process, so that its model is loaded once; torch's threads use the other cores
    judge = ImageTextSimilarityFilter(hf_clip=about["model"], min_score=-1.0, max_score=1.0, num_proc=1)
    pairs = [json.loads(line) for line in Path(about["samples"]).read_text().splitlines()]
    samples = [{"text": f"{SpecialTokens.image} {pair['caption']}", "images": [pair["image"]]} for pair in pairs]

    def work(most: int | None = None) -> int:
        given = samples[:most]
        kept = NestedDataset.from_list(given).process([judge], open_monitor=False)
        if len(kept) != len(given):
            raise SystemExit(f"Data-Juicer kept {len(kept)} of {len(given)} pairs, and was told to keep all")
        return len(kept)

    work(2)  # loads the model
    serve(["py-data-juicer", "transformers", "torch"], work)


if __name__ == "__main__":
    main()
