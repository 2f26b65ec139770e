"""Contact sheets: one picture of many samples, as a grid of images with captions beneath.

For people to look at. Lays out the samples it is given; does not know which are worth showing.
"""

from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from mmsynth.errors import ImageError
from mmsynth.sample import Sample

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageDraw
    import PIL.ImageFont

_MARGIN_PX, _GAP_PX = 16, 6
_PAPER, _CELL, _FRAME = (248, 248, 246), (236, 236, 232), (222, 222, 216)
_INK, _FAINT = (40, 40, 44), (128, 128, 132)
_FONT_PX, _LINE_PX, _CAPTION_LINES = 12, 15, 3
#: longer captions are cut to this many characters before they are measured
_MEASURED_CHARACTERS = 400


def write_contact_sheet(
    samples: Iterable[Sample], path: Path, columns: int = 6, max_samples: int = 48, cell_px: int = 160
) -> None:
    """Write a PNG that shows the first `max_samples` samples, `columns` to a row, in cells of `cell_px`.

    Each image is above its caption and, if it has any, its scores. An image that is missing or cannot be decoded gives
    an empty frame that says so. Raises ValueError for numbers below 1.
    """
    import PIL.Image
    import PIL.ImageDraw

    if min(columns, max_samples, cell_px) < 1:
        raise ValueError("columns, max_samples and cell_px must be at least 1")
    shown = list(islice(samples, max_samples))
    rows = [shown[start : start + columns] for start in range(0, len(shown), columns)]
    texts = [[_text(sample, cell_px) for sample in row] for row in rows]
    heights = [cell_px + _GAP_PX + _LINE_PX * max(map(len, row)) + _MARGIN_PX for row in texts]
    step = cell_px + _MARGIN_PX
    across = max(min(columns, len(shown)), 1)
    sheet = PIL.Image.new("RGB", (_MARGIN_PX + across * step, _MARGIN_PX + sum(heights)), _PAPER)
    draw = PIL.ImageDraw.Draw(sheet)
    top = _MARGIN_PX
    for row, row_texts, height in zip(rows, texts, heights, strict=True):
        for column, (sample, text) in enumerate(zip(row, row_texts, strict=True)):
            left = _MARGIN_PX + column * step
            _draw_image(sheet, draw, sample, (left, top), cell_px)
            for i, (line, ink) in enumerate(text):
                draw.text((left, top + cell_px + _GAP_PX + i * _LINE_PX), line, fill=ink, font=_font())
        top += height
    sheet.save(path, "PNG")


def _draw_image(
    sheet: "PIL.Image.Image", draw: "PIL.ImageDraw.ImageDraw", sample: Sample, corner: tuple[int, int], cell_px: int
) -> None:
    left, top = corner
    draw.rectangle((left - 1, top - 1, left + cell_px, top + cell_px), fill=_CELL, outline=_FRAME)
    try:
        picture = sample.image.pixels() if sample.image is not None else None
        why = "no image"
    except ImageError as error:
        picture, why = None, error.reason
    if picture is None:
        draw.text((left + cell_px / 2, top + cell_px / 2), why, fill=_FAINT, font=_font(), anchor="mm")
        return
    fitted = _fitted(picture, cell_px)
    sheet.paste(fitted, (left + (cell_px - fitted.width) // 2, top + (cell_px - fitted.height) // 2))


def _fitted(picture: "PIL.Image.Image", cell_px: int) -> "PIL.Image.Image":
    """Fit a picture into a cell. Large ones shrink; small ones grow by a whole factor, so pixels stay sharp."""
    from PIL.Image import Resampling

    longest = max(picture.size)
    if longest <= cell_px:
        factor = cell_px // longest
        return picture.resize((picture.width * factor, picture.height * factor), Resampling.NEAREST)
    sides = [max(1, round(side * cell_px / longest)) for side in picture.size]
    return picture.resize((sides[0], sides[1]), Resampling.LANCZOS)


def _text(sample: Sample, width: int) -> list[tuple[str, tuple[int, int, int]]]:
    """The lines beneath an image, with their colours: the caption, then one line of scores."""
    lines = [(line, _INK) for line in _wrapped(sample.caption or "", width)]
    scores = _scores(sample)
    return [*lines, (_elided(scores, width), _FAINT)] if scores else lines


def _scores(sample: Sample) -> str:
    scores = sample.record.get("scores", {})
    return "  ".join(f"{name} {value:.3g}" for name, value in scores.items() if isinstance(value, int | float))


def _wrapped(text: str, width: int) -> list[str]:
    """At most _CAPTION_LINES lines that fit into `width` pixels. An ellipsis marks text that was cut off."""
    words = text[:_MEASURED_CHARACTERS].split()
    lines: list[str] = []
    while words and len(lines) < _CAPTION_LINES:
        last = len(lines) == _CAPTION_LINES - 1
        line = words.pop(0)
        while words and not last and _fits(f"{line} {words[0]}", width):
            line += f" {words.pop(0)}"
        if last:
            line, words = _elided(" ".join([line, *words]), width), []
        elif not _fits(line, width):  # a long word, or a script that is written without spaces
            head = _longest_start(line, width)
            line, words = head, [line[len(head) :], *words]
        lines.append(line)
    return lines


def _elided(line: str, width: int) -> str:
    if _fits(line, width):
        return line
    return _longest_start(line, width - _length("…")).rstrip() + "…"


def _longest_start(line: str, width: float) -> str:
    """As many characters as fit, and at least one, so that cutting a word into lines always ends."""
    end = len(line)
    while end > 1 and not _fits(line[:end], width):
        end -= 1
    return line[:end]


def _fits(line: str, width: float) -> bool:
    return _length(line) <= width


def _length(line: str) -> float:
    return _font().getlength(line)


@cache
def _font() -> "PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont":
    """The font that comes with PIL. It draws unsupported scripts as boxes."""
    import PIL.ImageFont

    return PIL.ImageFont.load_default(size=_FONT_PX)
