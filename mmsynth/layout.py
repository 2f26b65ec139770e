"""Names in a run's output: a shard's files, by its number, and columns of the parquet files."""

import re
from collections.abc import Callable

RUN, SIZES, INDEX = "run.json", "sizes.json", "index.json"
#: of the source's folder, what was not read, by kind; where there is any
NOT_READ = "not_read.json"
#: what the name of a shard's stats ends in; the file commits the shard
STATS_ENDING = "_stats.json"
#: the prefix of score columns
SCORE_PREFIX = "score_"
_NUMBERED = re.compile(r"(\d{5,})([._].*)")


def tar_name(shard: int) -> str:
    """The tar with the kept samples."""
    return f"{numbered(shard)}.tar"


def table_name(shard: int) -> str:
    """The parquet file with a row for every input, or for every candidate made of it."""
    return f"{numbered(shard)}.parquet"


def stats_name(shard: int) -> str:
    """The stats, with counts and digests."""
    return f"{numbered(shard)}{STATS_ENDING}"


def array_name(shard: int, name: str) -> str:
    """The file with the arrays `name` of the kept samples."""
    return f"{numbered(shard)}_{name}.npy"


def numbered(shard: int) -> str:
    """The shard's number as file names write it."""
    return f"{shard:05d}"


def shard_of(file: str) -> int | None:
    """The number of the shard that a file belongs to, or None."""
    match = _NUMBERED.fullmatch(file)
    return int(match[1]) if match else None


def shard_if(file: str, named: Callable[[int], str]) -> int | None:
    """The shard's number if `named` gives this file name, else None: `shard_if("00003.tar", tar_name)` is 3."""
    shard = shard_of(file)
    return shard if shard is not None and named(shard) == file else None


def array_in(file: str) -> tuple[int, str] | None:
    """Shard and array name of an array file, or None."""
    match = _NUMBERED.fullmatch(file)
    if match is None or not match[2].startswith("_") or not match[2].endswith(".npy"):
        return None
    name = match[2].removeprefix("_").removesuffix(".npy")
    return (int(match[1]), name) if name else None


def score_column(score: str) -> str:
    return SCORE_PREFIX + score


def array_ending(array: str) -> str:
    """What the files of an array are called after the shard's number: `image.npy`."""
    return f"{array}.npy"


def score_in(column: str) -> str | None:
    """The score's name if the column is a score's, or None."""
    return column.removeprefix(SCORE_PREFIX) if column.startswith(SCORE_PREFIX) else None


def in_share(number: int, of: int) -> Callable[[str], bool]:
    """A function that says whether a file belongs to the shards of worker `number` out of `of`."""

    def is_ours(file: str) -> bool:
        shard = shard_of(file)
        return shard is not None and shard % of == number

    return is_ours
