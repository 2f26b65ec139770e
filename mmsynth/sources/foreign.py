"""Public forms of data that need a word before they are read: what they are, and the line that makes them readable."""

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmsynth.image_formats import MEMBER_EXTENSIONS

_IMAGE_COLUMNS = ("image", "image_name", "file_name", "filename", "image_path", "filepath", "file", "img", "path")
_CAPTION_COLUMNS = ("caption", "comment", "text", "captions", "title", "alt", "alt_text", "prompt", "sentence", "raw")
_IMAGES = tuple(f".{extension}" for extension in MEMBER_EXTENSIONS)
_BYTES_TO_LOOK_AT = 2**16


def is_url(cell: object) -> bool:
    return isinstance(cell, str) and cell.strip().lower().startswith(
        ("http://", "https://", "s3://", "gs://", "ftp://", "//")
    )


def is_captions_txt(path: Path) -> bool:
    """Whether a text file is a table of images and captions, as Flickr8k's `captions.txt` is."""
    with path.open("rb") as file:
        lines = [file.readline(_BYTES_TO_LOOK_AT).decode("utf-8-sig", "replace") for _ in range(2)]
    for delimiter in (",", "\t", "|", ";"):
        header, first = (next(csv.reader([line], delimiter=delimiter), []) for line in lines)
        names = [name.strip().lower() for name in header]
        if len(names) > 1 and set(names) & set(_IMAGE_COLUMNS) and set(names) & set(_CAPTION_COLUMNS):
            return any(cell.strip().lower().endswith(_IMAGES) for cell in first)
    return False


def columns_hint(found: Sequence[str], caption_is_asked_for: bool) -> str:
    """The settings that name the columns of a table, where their names tell which they are; or nothing."""
    named = {name.lower(): name for name in found}
    image = next((named[name] for name in _IMAGE_COLUMNS if name in named), None)
    caption = next((named[name] for name in _CAPTION_COLUMNS if name in named), None)
    if image is None:
        return ""
    settings = [("image", image)] + ([("caption", caption)] if caption and caption_is_asked_for else [])
    settings = [(parameter, name) for parameter, name in settings if parameter != name]
    return " ".join(f"--source-set {parameter}={shlex.quote(name)}" for parameter, name in settings)


def header_hint(path: str, found: Sequence[str]) -> str:
    """What to say of a table whose first line is no header but data; or nothing."""
    kinds = ["url" if is_url(cell) else "image" if cell.lower().endswith(_IMAGES) else "" for cell in found]
    if not any(kinds):
        return ""
    texts = iter(["caption", *(f"column{i}" for i in range(2, len(found) + 2))])
    names = [kind or next(texts) for kind in kinds]
    delimiter = "\\t" if path.lower().endswith(".tsv") else ","
    header = delimiter.join(names)
    named = str(Path(path).with_stem(f"{Path(path).stem}-named"))
    cell = next(cell for cell, kind in zip(found, kinds, strict=True) if kind)
    return (
        f"the first line of {path} is no header but data: '{cell[:200]}'. Put the names "
        f"of the columns above it: printf '{header}\\n' | cat - {shlex.quote(path)} > {shlex.quote(named)}"
    )


def json_hint(path: str, there: Path) -> str:
    """What to say of a JSON file: the line that makes a jsonl file of it, whose rows are read as a table."""
    with there.open("rb") as file:
        begin = file.read(_BYTES_TO_LOOK_AT).decode("utf-8-sig", "replace").lstrip()
    lines = str(Path(path).with_suffix(".jsonl"))
    opened = f"json.load(open({json.dumps(path)}))"
    if begin.startswith("["):
        conversations = '"conversations"' in begin or '"messages"' in begin
        how = f"import json; [print(json.dumps(row)) for row in {opened}]"
        what, settings = "one JSON array", " --source-set caption=null" if conversations else ""
    elif '"annotations"' in begin or ('"images"' in begin and '"info"' in begin):
        how = (
            f"import json; d = {opened}; n = {{i['id']: i['file_name'] for i in d['images']}}; "
            "[print(json.dumps({'image': n[a['image_id']], 'caption': a['caption']})) for a in d['annotations']]"
        )
        what, settings = "COCO's captions", ""
    else:
        return f"cannot tell what {path} is: a table in JSON has one object in each line, and its name ends in .jsonl"
    return (
        f"{path} is {what}: tables in JSON have one object in each line. "
        f"Write python -c {shlex.quote(how)} > {shlex.quote(lines)}, and give {lines}{settings}"
    )
