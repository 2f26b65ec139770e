"""Parquet files read in the caller's own thread: few columns of small files, where threads gain nothing.

Arrow's threads let go of a Python file some time after the read: if Python is ending by then, they abort the process.
"""

from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq


def columns_of(file: IO[bytes], wanted: Sequence[str] | None = None) -> pa.Table:
    """These columns of an open file, or all. Raises OSError and pa.ArrowException."""
    return pq.ParquetFile(file, pre_buffer=False).read(columns=wanted, use_threads=False)


def names_in(file: IO[bytes]) -> list[str]:
    """The names of its columns."""
    return list(pq.ParquetFile(file, pre_buffer=False).schema_arrow.names)
