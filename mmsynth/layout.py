"""The names of what a run writes: files by the number of their shard, columns of the parquet files."""

import re
from collections.abc import Callable

RUN, SIZES, INDEX = "run.json", "sizes.json", "index.json"
#: of the source's folder, what was not read, by kind; where there is any
NOT_READ = "not_read.json"
#: what the name of a shard's stats ends in; the file commits the shard
STATS_ENDING = "_stats.json"
#: before a score's name, in the name of its column
SCORE_PREFIX = "score_"
_NUMBERED = re.compile(r"(\d{5,})([._].*)")


def tar_name(shard: int) -> str:
    """The kept samples."""
    return f"{numbered(shard)}.tar"


def table_name(shard: int) -> str:
    """A row for every input, or candidate made of one."""
    return f"{numbered(shard)}.parquet"


def stats_name(shard: int) -> str:
    """Counts and digests."""
    return f"{numbered(shard)}{STATS_ENDING}"


def array_name(shard: int, name: str) -> str:
    """The arrays called `name` of the kept samples."""
    return f"{numbered(shard)}_{name}.npy"


def numbered(shard: int) -> str:
    """The shard's number as names have it."""
    return f"{shard:05d}"


def shard_of(file: str) -> int | None:
    """The number of the shard that a file belongs to, or None."""
    match = _NUMBERED.fullmatch(file)
    return int(match[1]) if match else None


def shard_if(file: str, named: Callable[[int], str]) -> int | None:
    """The number of the shard whose file is called so: `shard_if("00003.tar", tar_name)` is 3; or None."""
    shard = shard_of(file)
    return shard if shard is not None and named(shard) == file else None


def array_in(file: str) -> tuple[int, str] | None:
    """Shard and name of the arrays in a file, or None."""
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
    """The score in a column, or None."""
    return column.removeprefix(SCORE_PREFIX) if column.startswith(SCORE_PREFIX) else None


def in_share(number: int, of: int) -> Callable[[str], bool]:
    """Whether a file belongs to one of the shards of worker `number` of so many."""

    def is_ours(file: str) -> bool:
        shard = shard_of(file)
        return shard is not None and shard % of == number

    return is_ours
