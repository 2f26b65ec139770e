"""selection: decide afterwards, from the parquet files of runs, which samples go on.

run_files.py   the files of a run, in a folder or at a URL
rows.py        the rows of runs, as one table that DuckDB reads
decision.py    what to keep, and why the rest goes
arrays.py      what filters keep beside the shards: hashes, embeddings
near.py        near-duplicates among the rows
source.py      the samples that a decision keeps, as a source
"""

from mmsynth.selection.decision import Decided, Decision
from mmsynth.selection.rows import Rows
from mmsynth.selection.source import Selection

__all__ = ["Decided", "Decision", "Rows", "Selection"]
