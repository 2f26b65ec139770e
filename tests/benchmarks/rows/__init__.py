"""The rows of the table: name → what builds its sides. One module for each piece of work, loaded when it is asked for."""

from importlib import import_module

from tests.benchmarks.measure import Options, Row

ROWS = {
    "clip": "clip:photographs",
    "clip_12mp": "clip:twelve_megapixels",
    "decode": "decode:photographs",
    "decode_12mp": "decode:twelve_megapixels",
    "caption": "captioning:row",
    "draw": "drawing:row",
    "shards": "shards:row",
    "resume": "resume:row",
    "in_flight": "in_flight:row",
}


def build(name: str, options: Options) -> Row:
    """The row with its input made and its models loaded."""
    module, _, function = ROWS[name].partition(":")
    row: Row = getattr(import_module(f"{__name__}.{module}"), function)(options)
    return row
