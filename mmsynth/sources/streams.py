"""Keys of tars that are read straight through: nothing tells their keys before, so each tar's must be its own."""

from collections.abc import Sequence
from functools import cached_property

from mmsynth.io.locations import is_remote
from mmsynth.keys import short_digest
from mmsynth.secrets import without_secrets
from mmsynth.sources.earlier_runs import is_of_a_run
from mmsynth.sources.tars import folder_of, is_plain_file, stem_of


class Streams:
    """Keys for the tars of one source of which some are compressed or lie at URLs.

    A key stays as it is where it cannot be in another tar of the source: where there is only one tar, where all tars
    are of one run of mmsynth, whose keys are unique, and where it begins with the name of its own tar and of no
    other, as img2dataset's do (`00012.tar`, `000120003`). Every other one gets a suffix that its tar alone has.
    """

    def __init__(self, tars: Sequence[str]) -> None:
        self._tars = tars

    def key(self, tar: str, key: str) -> str:
        if self._all_unique or self._named_by(key) == [tar]:
            return key
        return f"{key}-{short_digest(without_secrets(tar))}"

    @cached_property
    def _all_unique(self) -> bool:
        if len(self._tars) == 1:
            return True
        return len({folder_of(tar) for tar in self._tars}) == 1 and is_of_a_run(self._tars[0])

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        """Stem → tars; none where keys of tars that can be cut, which are others' business, might be the same."""
        stems: dict[str, list[str]] = {}
        for tar in self._tars:
            stems.setdefault(stem_of(tar), []).append(tar)
        return {} if any(map(_is_cut, self._tars)) else stems

    def _named_by(self, key: str) -> list[str]:
        """The tars whose names `key` begins with."""
        return [tar for end in range(1, len(key) + 1) for tar in self._stems.get(key[:end], ())]


def _is_cut(tar: str) -> bool:
    try:
        return not is_remote(tar) and is_plain_file(tar)
    except OSError:
        return False
