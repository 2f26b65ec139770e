"""The fault layer below Python: shim.c, compiled here, loaded before the C library."""

import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shim.c")


def compiled(folder: Path) -> Path | None:
    """The shim as a library; None where there is no C compiler, or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    library = folder / "shim.so"
    if compiler is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"], capture_output=True, check=False
    )
    return library if made.returncode == 0 else None


def failing(library: Path, under: Path, seed: int, per_mille: int) -> dict[str, str]:
    """Environment in which of 1,000 calls on files below `under` about `per_mille` fail."""
    return {
        "LD_PRELOAD": str(library),
        "FAULT_UNDER": str(under),
        "FAULT_SEED": str(seed),
        "FAULT_PER_MILLE": str(per_mille),
    }


def jumping(library: Path, seed: int) -> dict[str, str]:
    """Environment in which the clock on the wall jumps by up to a year, forth and back."""
    return {"LD_PRELOAD": str(library), "FAULT_CLOCK": "1", "FAULT_SEED": str(seed)}
