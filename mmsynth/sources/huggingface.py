"""The huggingface source: a dataset that the `datasets` library loads, from a local folder or the hub."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from mmsynth.errors import PluginError, SourceError
from mmsynth.frames import MOST_FRAMES
from mmsynth.io.locations import local
from mmsynth.io.retry import one_line
from mmsynth.sample import Sample
from mmsynth.sources.base import Slice, Source, Unreadable
from mmsynth.sources.files import InputFile, files_in
from mmsynth.sources.frames import framed
from mmsynth.sources.rows import Columns, RowReader, check_columns, pictures_by_name, row_key
from mmsynth.sources.unique import UniqueKeys

#: rows held at a time: each may hold a whole image
_ROWS_PER_BATCH = 64
_SAVED = ("state.json", "dataset_dict.json")


class HuggingFace(Source):
    """Read the rows of a dataset that `datasets.load_dataset` or `load_from_disk` loads. Image bytes stay unchanged.

    `path` is a local folder or a hub name. The image column holds images, bytes or paths. If it holds lists
    (`Sequence(Image())`), the first item is the main picture, and the others become `image1`, `image2`, … Name other
    columns that hold images with `images: {before: source_image}`. The record notes a further image that is not found
    as `picture_unreadable`. With `frames: 8`, a video or an animation gives the pictures `frame00` … `frame07`.

    The caption column holds a text or a list of texts. Other columns are kept in `record["source"]["row"]`.
    """

    path: str
    split: str = "train"
    config: str | None = None
    image: str = "image"
    caption: str | None = "caption"
    key: str | None = None
    revision: str | None = None
    images: dict[str, str] = Field({}, description="further pictures, name → column, or a list of columns")
    frames: int | None = Field(None, ge=1, le=MOST_FRAMES, description="frames per video or animation, as pictures")

    @field_validator("images", mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return pictures_by_name(given)

    def check(self) -> None:
        found = self._dataset().column_names
        may_be_missing = self.caption == "caption" and "caption" not in self.model_fields_set
        check_columns(self._columns, found, self.path, may_be_missing)

    def count(self) -> int | None:
        return len(self._dataset())

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        dataset = self._dataset()
        _files_in.cache_clear()
        keys = UniqueKeys()
        for start in range(0, len(dataset), samples_per_slice):
            stop = min(start + samples_per_slice, len(dataset))
            payload: dict[str, Any] = {"start": start, "stop": stop, "renamed": []}
            if self.key:
                cells = dataset.select_columns([self.key])[start:stop].to_pylist()
                names = [row_key(row, self._columns, start + i) for i, row in enumerate(cells)]
                payload["renamed"] = [[i, other] for i, other in keys.claim(names).items()]
            yield Slice(payload, stop - start)

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        yield from framed(self._read(payload), self.frames)

    def _read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        dataset = self._dataset()
        first, end = payload["start"], payload["stop"]
        renamed = dict(payload["renamed"])
        folder = local(self.path)
        name = folder.name if folder.exists() else self.path
        reader = RowReader("huggingface", name, folder, self._columns)
        for start in range(first, end, _ROWS_PER_BATCH):
            for index, row in enumerate(dataset[start : min(start + _ROWS_PER_BATCH, end)].to_pylist(), start):
                key = renamed.get(index - first) or row_key(row, self._columns, index)
                yield reader.sample(row, index, key)

    def keys(self, one: Slice) -> Iterator[str]:
        if self.key:
            return super().keys(one)
        return (row_key({}, self._columns, index) for index in range(one.payload["start"], one.payload["stop"]))

    def files(self, payload: Any) -> Iterable[InputFile]:
        """Of a local folder all, looked at once; a dataset on the hub is what its files' folder in the cache says."""
        return _files(self._dataset(), self.path)

    @property
    def _columns(self) -> Columns:
        return Columns(self.image, self.caption, self.key, self.images)

    def _dataset(self) -> Any:
        return _load(self.path, self.split, self.config, self.revision)


@lru_cache(maxsize=4)
def _load(path: str, split: str, config: str | None, revision: str | None) -> Any:
    """The dataset, loaded once per process. It gives Arrow tables, with nothing decoded."""
    try:
        import datasets
    except ImportError as error:
        raise PluginError("the huggingface source needs 'datasets': pip install 'mmsynth[huggingface]'") from error
    folder = local(path)
    if not folder.exists() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise SourceError(f"no such folder: {path} (nor is it a hub name, owner/name)")
    try:
        if any((folder / name).exists() for name in _SAVED):
            dataset = _from_disk(datasets.load_from_disk(str(folder)), path, split)
        else:
            dataset = datasets.load_dataset(
                str(folder) if folder.exists() else path, config, split=split, revision=revision
            )
    except SourceError:
        raise
    except Exception as error:  # the library raises its own, the hub's client's and pyarrow's errors
        what = "cannot be loaded" if folder.exists() else "could not be found or downloaded"
        hint = "" if folder.exists() else " (check the name, the network and HF_TOKEN, or use a local folder)"
        raise SourceError(f"the dataset {path} (split '{split}') {what}: {one_line(error)}{hint}") from error
    return dataset.with_format("arrow")


def _files(dataset: Any, path: str) -> tuple[InputFile, ...]:
    folder = local(path)
    if folder.exists():
        return _files_in(folder)
    # .../version/revision/file.arrow
    return tuple(InputFile(path, 0, Path(file["filename"]).parent.name) for file in dataset.cache_files)


@lru_cache(maxsize=4)
def _files_in(folder: Path) -> tuple[InputFile, ...]:
    """Looked at once for all slices of a run."""
    return tuple(files_in(folder))


def _from_disk(saved: Any, path: str, split: str) -> Any:
    if isinstance(saved, dict):
        if split not in saved:
            raise SourceError(f"no split '{split}' in {path}. Splits: {', '.join(saved)}")
        return saved[split]
    if split not in {"train", str(saved.split)}:
        raise SourceError(f"no split '{split}' in {path}: it was saved as one dataset, without splits")
    return saved
