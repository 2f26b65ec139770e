"""What every training script can be told on the command line."""

import argparse
from pathlib import Path
from typing import Any


def training_options(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options that all trainings share; `defaults` names shards, folder, steps, batch and lr."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--folder", type=Path, help="weights and state, to go on from")
    parser.add_argument("--steps", type=int, help="of the whole schedule")
    parser.add_argument("--batch", type=int, help="scenes a step, over all processes")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; run again to go on")
    parser.add_argument("--limit", type=int, help="first scenes only, to try it out")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(**defaults)
    return parser
