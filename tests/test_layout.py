"""The house rules that no linter knows: sizes of modules, and private members that stay within theirs."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(
    path
    for folder in ("mmsynth", "captioners/mmsynth_captioners", "renderers/mmsynth_renderers", "filters/mmsynth_filters")
    for path in (ROOT / folder).rglob("*.py")
)
#: of Python and libraries: members that have no other name
_LIBRARIES = {
    "_exit",
    "_run_exitfuncs",
    "_replace",
    "_strip_protocol",
    "_is_avx512_bf16_supported",
    "_is_amx_tile_supported",
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [path for path in MODULES if path.is_relative_to(ROOT / "mmsynth")], ids=named)
def test_no_module_of_the_core_is_over_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_no_private_member_of_another_module_is_read(path: Path) -> None:
    tree = ast.parse(path.read_text())
    own = set(_defined(tree))
    foreign = {
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and _is_private(node.attr) and node.attr not in own | _LIBRARIES
    }
    imported = {
        f"line {node.lineno}: {alias.name} of {node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmsynth")
        for alias in node.names
        if _is_private(alias.name)
    }
    assert not foreign | imported


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined(tree: ast.AST) -> Iterator[str]:
    """Names that the module itself gives: functions, classes, fields, what is assigned to self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
