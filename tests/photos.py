"""Real photographs and drawings, as installed packages carry them."""

from pathlib import Path

import skimage
import sklearn

#: Debian's package openclipart-png
_CLIP_ART = Path("/usr/share/openclipart/png")


def photographs(most: int | None = None) -> list[Path]:
    """Photographs inside scikit-image and scikit-learn, by name: jpg and png, each with a name of its own."""
    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    found = sorted(p for folder in folders for p in folder.iterdir() if p.suffix in {".jpg", ".png", ".gif"})
    named = {path.stem: path for path in reversed(found)}
    photos = sorted(named.values(), key=lambda path: path.stem)
    assert photos, "scikit-image and scikit-learn carry photographs"
    return photos[:most]


def clip_art() -> list[Path]:
    """Drawings of the Debian package openclipart-png, by path; none where it is not installed."""
    return sorted(path for path in _CLIP_ART.rglob("*.png") if not path.is_symlink())
