"""The scores and arrays that come with tars of an earlier mmsynth run.

Recognizes the run by the stats beside a tar, local or at a URL. Does not read the tars.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mmsynth.blocks import all_made_by, stats_in
from mmsynth.errors import SourceError
from mmsynth.io.locations import is_remote, is_web
from mmsynth.io.remote_files import unreachable
from mmsynth.io.retry import is_refused, one_line
from mmsynth.io.storage import storage_at
from mmsynth.layout import shard_if, stats_name, tar_name
from mmsynth.secrets import without_secrets
from mmsynth.shard_arrays import Kind, ShardArrays, alike, kind_in, read
from mmsynth.sources.tars import folder_of


@dataclass(frozen=True)
class _Shard:
    """A committed shard that a tar belongs to."""

    folder: str
    number: int
    #: file → digest, so that a shard rewritten with other content counts as another one
    files: tuple[tuple[str, str], ...]
    scores: tuple[str, ...]
    arrays: tuple[str, ...]
    made_by: tuple[tuple[str, tuple[str, ...]], ...]


def scores_of(tars: Sequence[str]) -> tuple[str, ...]:
    """The scores that the samples of these tars have."""
    return tuple(dict.fromkeys(score for shard in _looked_at(tars) for score in shard.scores))


def arrays_of(tars: Sequence[str]) -> tuple[str, ...]:
    """The arrays that have the same kind in each of these tars that has them. Raises SourceError."""
    return alike(_kinds(shard) for shard in _looked_at(tars))


def made_by_of(tars: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The models that gave these scores and arrays."""
    return all_made_by(dict(shard.made_by) for shard in _looked_at(tars))


def arrays_beside(tar: str, names: Sequence[str]) -> ShardArrays | None:
    """The arrays called `names` that lie beside a tar, or None if there are none. Raises SourceError."""
    shard = _shard_of(tar)
    wanted = tuple(name for name in names if name in shard.arrays) if shard else ()
    return _read(shard, wanted) if shard and wanted else None


def is_of_a_run(tar: str) -> bool:
    """Whether stats of mmsynth lie beside it."""
    return _shard_of(tar) is not None


def _looked_at(tars: Sequence[str]) -> Iterator[_Shard]:
    """The first and the last shard of each run. They stand for the others, since all declare the same."""
    by_folder: dict[str, list[str]] = {}
    for tar in tars:
        by_folder.setdefault(folder_of(tar), []).append(tar)
    for beside in by_folder.values():
        for tar in dict.fromkeys((beside[0], beside[-1])):
            if shard := _shard_of(tar):
                yield shard


def _shard_of(tar: str) -> _Shard | None:
    """The shard of a tar, or None if no mmsynth stats lie beside it (img2dataset's have the same name)."""
    name = tar.rpartition("/")[2] if is_remote(tar) else Path(tar).name
    number = shard_if(name, tar_name)
    if number is None:
        return None
    try:
        text = storage_at(folder_of(tar)).read_all([stats_name(number)])[stats_name(number)]
    except (FileNotFoundError, PermissionError):  # S3 says so of what is not there, to whom may not list
        return None
    except OSError as error:
        if is_web(tar) and is_refused(error):
            return None
        raise unreachable(error) from error
    stats = stats_in(text)
    if stats is None:
        return None
    made_by = tuple(stats.made_by.items())
    return _Shard(folder_of(tar), number, tuple(stats.sha256.items()), stats.scores, stats.written_arrays(), made_by)


@lru_cache(maxsize=64)
def _kinds(shard: _Shard) -> dict[str, Kind]:
    storage = storage_at(shard.folder)
    with _reading(shard):
        return {name: kind_in(storage, shard.number, name) for name in shard.arrays}


@lru_cache(maxsize=2)
def _read(shard: _Shard, names: tuple[str, ...]) -> ShardArrays:
    with _reading(shard):
        return read(storage_at(shard.folder), shard.number, names)


@contextmanager
def _reading(shard: _Shard) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        tar = f"{without_secrets(shard.folder)}/{tar_name(shard.number)}"
        raise SourceError(
            f"the arrays beside {tar} cannot be read: {one_line(error)}; to go on without them, move the tar away from "
            f"its {stats_name(shard.number)}"
        ) from error
