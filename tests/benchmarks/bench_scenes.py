"""Scenes a second on one core: thought up, laid out, drawn, captioned.

Run by hand: python tests/benchmarks/bench_scenes.py [-n 3000] [--size 64 256]
Counts this process's CPU time, so that a busy machine does not change the answer.
"""

import argparse
import time
from collections.abc import Callable

from mmsynth_captioners.facts import FactsCaptioner
from mmsynth_renderers.scenes import SceneRenderer, SceneSource


def per_second(n: int, work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return n / (time.process_time() - start)


def measure(n: int, size: int) -> None:
    source, renderer, captioner = SceneSource(n=n), SceneRenderer(size=size), FactsCaptioner()
    renderer.process([source.sample(i) for i in range(min(n, 500))])  # outlines drawn, layouts known
    samples = list(source.read({"start": 0, "stop": n}))
    drawn = renderer.process(samples[:32])
    # the same few pictures again and again: what is measured is the work, not memory for thousands of pictures
    steps: dict[str, Callable[[], object]] = {
        "facts and prompt": lambda: list(source.read({"start": 0, "stop": n})),
        "layout and drawing": lambda: [renderer.process([sample]) for sample in samples],
        "caption and 4 questions": lambda: [captioner.process([drawn[i % 32]]) for i in range(n)],
        "PNG": lambda: [drawn[i % 32].image.encoded("png") for i in range(n)],
    }
    print(f"{n} scenes at {size} px, each step alone:")
    for name, work in steps.items():
        print(f"  {name:24} {per_second(n, work):9,.0f} a second and core")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3000)
    parser.add_argument("--size", type=int, nargs="+", default=[64, 256])
    arguments = parser.parse_args()
    for size in arguments.size:
        measure(arguments.n, size)
