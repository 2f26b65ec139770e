"""results.md: what the campaign found, each figure with its command. A new run of a sort replaces that sort's lines."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from tests.faults.trial import Figure

FILE = Path(__file__).with_name("results.md")
_HEAD = """# What the campaign found

Written by `python -m tests.faults`, and by nothing else. "Held" is how often the promise did; what went wrong where it
did not stands below each table.
"""
_SECTION = re.compile(r"^## (\w+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_MOST_TOLD = 8


def write(name: str, figures: Sequence[Figure], command: str) -> None:
    """Put the figures of one sort in their place in the file."""
    sections = dict(_SECTION.findall(FILE.read_text("utf-8"))) if FILE.exists() else {}
    cores = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    sections[name] = f"\n`{command.strip()}` ({cores})\n\n{table(figures)}\n\n"
    FILE.write_text(_HEAD + "\n" + "\n".join(f"## {name}\n\n{text.strip()}\n" for name, text in sections.items()))


def table(figures: Sequence[Figure]) -> str:
    """The figures as a table, and what went wrong as a list."""
    lines = ["| sort | what | tried | held | |", "| --- | --- | --- | --- | --- |"]
    lines += [line(figure) for figure in figures]
    wrong = [f"- {f.sort}, {f.what}: {text}" for f in figures for text in f.wrong[:_MOST_TOLD]]
    return "\n".join([*lines, *([""] if wrong else []), *wrong])


def line(figure: Figure) -> str:
    return f"| {figure.sort} | {figure.what} | {figure.tried} | {figure.held} | {figure.note} |"
