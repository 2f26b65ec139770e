"""Looking at output folders."""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def digests(folder: Path) -> dict[str, str]:
    """Name → digest of every file that a run leaves."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir()) if p.is_file()}


def shard_digests(folder: Path) -> dict[str, str]:
    """The same without run.json, which names the folder."""
    return {name: digest for name, digest in digests(folder).items() if name != "run.json"}


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of all parquet files, in order."""
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def members(folder: Path) -> dict[str, dict[str, bytes]]:
    """key → extension → bytes of everything in the tars."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                file = tar.extractfile(member)
                assert file is not None
                found.setdefault(key, {})[extension] = file.read()
    return found


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """key → its JSON."""
    return {key: json.loads(one["json"]) for key, one in members(folder).items()}
