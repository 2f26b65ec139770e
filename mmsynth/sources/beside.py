"""What lies in a source's folder and is no input of it: counted by kind, so that the report can tell of it."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mmsynth.io.locations import is_remote, is_web
from mmsynth.io.remote_files import files_below
from mmsynth.layout import INDEX, NOT_READ, RUN, SIZES, shard_of

#: kinds that are no extensions
A_RUN, WITHOUT_EXTENSION = "runs of mmsynth", "without extension"
#: what operating systems leave in folders
CLUTTER = frozenset({"thumbs.db", "desktop.ini"})
#: of shards, beside their tars
_COMPANIONS = frozenset({RUN, SIZES, INDEX, "selection.json", "duplicates.csv", NOT_READ, "contact_sheet.jpg"})


def is_run(folder: Path) -> bool:
    """Whether mmsynth writes, or wrote, its output there: never an input of the folder that it lies in."""
    try:
        about = json.loads((folder / RUN).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and "recipe" in about and "fingerprint" in about


def kind_of(name: str) -> str:
    """The kind of a file, by its name: its extension."""
    return PurePosixPath(name).suffix.lower() or WITHOUT_EXTENSION


def others_below(folder: str | Path, inputs: Iterable[str], *, companions: bool = False) -> Counter[str]:
    """Kind → how many of the files in a folder or below it are not among `inputs`; hidden ones do not count.

    With `companions`, neither does what lies beside the shards of a run.
    """
    known = set(inputs)
    if is_remote(folder):
        root = str(folder).rstrip("/")
        paths = [] if is_web(folder) else [f"{root}/{name}" for name in files_below(f"{root}/")]
        return Counter(kind_of(path) for path in paths if path not in known and not _is_companion(path, companions))
    found: Counter[str] = Counter()
    for place, folders, files in os.walk(folder):
        runs = [name for name in folders if is_run(Path(place, name))]
        found.update([A_RUN] * len(runs))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in runs)
        for name in files:
            is_clutter = name.startswith(".") or name.lower() in CLUTTER
            if not is_clutter and str(Path(place, name)) not in known and not _is_companion(name, companions):
                found[kind_of(name)] += 1
    return found


def _is_companion(path: str, companions: bool) -> bool:
    name = path.rpartition("/")[2]
    return companions and (name in _COMPANIONS or (shard_of(name) is not None and not name.lower().endswith(".tar")))
