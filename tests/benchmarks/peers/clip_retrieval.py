"""clip-retrieval's inference: its webdataset reader, mapper and writer, as its runner calls them.

Runs in an environment that has clip-retrieval. The embeddings are its result; their products are not worked out.
"""

import os
import sys
import tempfile
from pathlib import Path

# this folder is on the path for `serving`, and must not hide the package that this script is named for
_here = sys.path.pop(0)
import json  # noqa: E402

from all_clip import load_clip  # noqa: E402
from clip_retrieval.clip_inference.mapper import ClipMapper  # noqa: E402
from clip_retrieval.clip_inference.reader import WebdatasetReader  # noqa: E402
from clip_retrieval.clip_inference.writer import NumpyWriter  # noqa: E402

sys.path.append(_here)
from serving import serve  # noqa: E402

BATCH = 64


def main() -> None:
    about = json.loads(sys.argv[1])
    # two slashes: after the first is a checkpoint, whose path begins with the second
    model = {"clip_model": f"open_clip:ViT-B-32/{about['model']}", "use_jit": False, "warmup_batch_size": BATCH}
    _, preprocess, tokenizer = load_clip(clip_cache_path=None, **model)
    mapper = ClipMapper(
        enable_image=True, enable_text=True, enable_metadata=False, use_mclip=False, mclip_model="", **model
    )
    tars = sorted(str(path) for path in Path(about["tars"]).glob("*.tar"))

    def work() -> int:
        reader = WebdatasetReader(
            lambda urls: urls, preprocess, tokenizer, tars, BATCH, min(len(tars), os.cpu_count() or 1)
        )
        done = 0
        with tempfile.TemporaryDirectory(dir=about["scratch"]) as out:
            writer = NumpyWriter(0, out, True, True, False, 1)
            for batch in reader:
                embedded = mapper(batch)
                writer(embedded)
                done += len(embedded["image_embs"])
            writer.flush()
        return done

    serve(["clip-retrieval", "open-clip-torch", "torch"], work)


if __name__ == "__main__":
    main()
