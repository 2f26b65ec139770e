"""selection: decide after a run, from its parquet files, which samples to keep.

rows.py        the rows of runs, as one table that DuckDB reads
decision.py    what to keep, and why the rest is dropped
near.py        near-duplicates among the rows
source.py      the samples that a decision keeps, as a source
"""

from mmsynth.selection.decision import Decided, Decision
from mmsynth.selection.rows import Rows
from mmsynth.selection.source import Selection

__all__ = ["Decided", "Decision", "Rows", "Selection"]
