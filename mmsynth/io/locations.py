"""Locations as users write them: a path, `~/path`, `file://path`, or a URL that fsspec knows.

The one place that knows of `file://` and of `~`. Reads nothing.
"""

import os.path
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

from mmsynth.errors import SourceError
from mmsynth.io.retry import one_line

_FILE = "file://"
#: protocol → the package that fsspec needs for it, if the extra is not simply fsspec[protocol]
_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "hf": "huggingface_hub"}


def is_remote(location: str | Path) -> bool:
    """Whether `location` is a URL, other than one of a local file."""
    text = str(location)
    return "://" in text and not text.startswith(_FILE)


def is_web(location: str | Path) -> bool:
    """Whether `location` is on a web server. Web servers list no folders, and a ? begins a query in their URLs."""
    return str(location).startswith(("http://", "https://"))


def local(location: str | Path) -> Path:
    """The path of a local file or folder."""
    return Path(os.path.expanduser(str(location).removeprefix(_FILE)))  # noqa: PTH111 - Path's raises for ~nobody


def shown(location: str) -> str:
    """A location that is safe to write to disk or logs: a file's name, or a URL with its credentials redacted."""
    if not is_remote(location):
        return local(location).name
    parts = urlsplit(location)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def filesystem(url: str) -> tuple[Any, str]:
    """fsspec's file system for `url`, and the path in it. Raises SourceError if the protocol needs a package."""
    import fsspec

    try:
        return cast(tuple[Any, str], fsspec.core.url_to_fs(url))
    except ImportError as error:
        scheme = url.partition("://")[0]
        needed = _PACKAGES.get(scheme, f"fsspec[{scheme}]")
        raise SourceError(f"{scheme}:// needs a package that is not installed: pip install '{needed}'") from error
    except ValueError as error:
        raise SourceError(f"cannot read {shown(url)}: {one_line(error)}") from error
