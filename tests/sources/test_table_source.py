"""The table source: rows of csv, tsv, jsonl and parquet become samples, and a bad row costs only itself."""

import csv
import datetime
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmsynth.errors import SourceError
from mmsynth.sample import Sample
from mmsynth.sources.base import Unreadable
from mmsynth.sources.table import Table
from tests.sources.source_files import PHOTOGRAPHS, everything, picture, reasons, samples, source_of


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path, samples_per_slice: int = 3, **parameters: Any) -> list[Sample | Unreadable]:
    source = Table(path=str(path), **parameters)
    source.check()
    return everything(source, samples_per_slice)


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "parquet"])
def test_rows_with_paths_become_samples(tmp_path: Path, extension: str) -> None:
    (tmp_path / "images").mkdir()
    rows = []
    for name, data in PHOTOGRAPHS.items():
        (tmp_path / "images" / name).write_bytes(data)
        caption = f'the "{name}", with a comma\nand a line 猫' if extension != "tsv" else name
        rows.append({"image": f"images/{name}", "caption": caption, "size": len(data)})
    found = samples(read(write_table(tmp_path / f"t.{extension}", rows)))
    assert [sample.key for sample in found] == [f"{i:09d}" for i in range(len(rows))]
    for sample, row in zip(found, rows, strict=True):
        assert sample.image is not None
        assert sample.image.data == PHOTOGRAPHS[Path(row["image"]).name]
        assert sample.caption == row["caption"]
        assert source_of(sample)["image"] == row["image"]
        assert str(source_of(sample)["row"]["size"]) == str(row["size"])
        assert str(tmp_path) not in json.dumps(sample.record)


def test_parquet_holds_bytes_and_the_datasets_librarys_images(tmp_path: Path) -> None:
    plain = [{"picture": data, "text": name} for name, data in PHOTOGRAPHS.items()]
    found = samples(read(write_table(tmp_path / "a.parquet", plain), image="picture", caption="text"))
    assert [s.image.data for s in found if s.image] == list(PHOTOGRAPHS.values())
    structs = [{"image": {"bytes": data, "path": name}} for name, data in PHOTOGRAPHS.items()]
    found = samples(read(write_table(tmp_path / "b.parquet", structs)))
    assert [s.image.data for s in found if s.image] == list(PHOTOGRAPHS.values())
    assert [source_of(s)["image"] for s in found] == list(PHOTOGRAPHS)


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("samples_per_slice", [1, 4, 7, 100])
def test_slices_of_any_size_give_the_same_rows(tmp_path: Path, extension: str, samples_per_slice: int) -> None:
    rows = [{"image": f"{i}.png", "caption": f"number\n{i}" if i % 3 else f"{i}"} for i in range(23)]
    for row in rows:
        (tmp_path / row["image"]).write_bytes(picture(1))
    found = samples(read(write_table(tmp_path / f"t.{extension}", rows), samples_per_slice))
    assert [sample.caption for sample in found] == [row["caption"] for row in rows]
    assert [source_of(sample)["index"] for sample in found] == list(range(23))


def test_a_bad_csv_row_costs_only_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    lines = [
        "image,caption",
        "a.png,first",
        'a.png,"never closed',
        "a.png,third",
        "a.png,too,many",
        "a.png",
        "",
        'a.png,"closed ""quote"""',
        'a.png,"opened again',
        "a.png,last",
    ]
    (tmp_path / "t.csv").write_text("\r\n".join(lines) + "\r\n")
    found = read(tmp_path / "t.csv")
    assert [sample.caption for sample in samples(found)] == ["first", "third", 'closed "quote"', "last"]
    assert list(reasons(found).values()) == ["row_unreadable"] * 4


def test_a_bad_jsonl_line_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    good = b'{"image": "a.png", "caption": "x"}\n'
    (tmp_path / "t.jsonl").write_bytes(
        good + b'{"image": "a.png", "capt\n' + b"\n" + b"[1]\n" + b"[" * 9999 + b"\n" + good.replace(b"x", b"caf\xe9")
    )
    found = read(tmp_path / "t.jsonl", 2)
    assert [sample.caption for sample in samples(found)] == ["x", "caf�"]
    assert source_of(samples(found)[1])["repaired"] == ["caption_not_utf8"]
    assert list(reasons(found).values()) == ["row_unreadable"] * 3


def test_bad_cells_are_rows_with_reasons(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "empty.png").write_bytes(b"")
    cells = ["a.png", "gone.png", "", "https://host/a.png", "empty.png", ".", "a\0b.png", "x" * 5000, 7, None, "a.png"]
    found = read(write_table(tmp_path / "t.jsonl", [{"image": cell, "caption": "c"} for cell in cells]))
    assert [reasons([item]).get(item.key) for item in found] == [
        None, "image_missing", "image_missing", "image_is_url", "image_empty", "image_missing", "image_missing",
        "image_missing", "image_cell_unreadable", "image_missing", None,
    ]  # fmt: skip


def test_a_damaged_parquet_keeps_a_row_for_every_row(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    rows = [{"image": picture(i) + bytes(200 * [i]), "caption": f"{i} " * 50} for i in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4, compression="none", write_page_checksum=True)
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 300] = bytes(300)
    path.write_bytes(data)
    found = read(path, samples_per_slice=5)
    assert len(found) == 12
    assert [item.key for item in found] == [f"{i:09d}" for i in range(12)]
    assert list(reasons(found)) == [f"{i:09d}" for i in range(4, 8)]


def test_keys_come_from_a_column_and_are_made_unique(tmp_path: Path) -> None:
    names = ["one", "two", "one", "", "../two", "one", "two"]
    for extension in ("csv", "jsonl", "parquet"):
        rows = [
            {"image": picture(i) if extension == "parquet" else "a.png", "id": name} for i, name in enumerate(names)
        ]
        (tmp_path / "a.png").write_bytes(picture())
        found = samples(read(write_table(tmp_path / f"t.{extension}", rows), 2, key="id"))
        assert [sample.key for sample in found][:2] == ["one", "two"]
        assert found[3].key == "000000003"
        assert [source_of(sample).get("original_key") for sample in found] == [
            None, None, "one", None, "../two", "one", "two",
        ]  # fmt: skip
        assert source_of(found[4])["repaired"] == ["key_cleaned"]
        assert source_of(found[5])["repaired"] == ["duplicate_key"]


def test_lists_of_captions_are_all_kept(tmp_path: Path) -> None:
    rows = [{"image": picture(), "caption": ["first", "second", "", "first"]}]
    (sample,) = samples(read(write_table(tmp_path / "t.parquet", rows)))
    assert sample.caption == "first"
    assert [entry["text"] for entry in sample.record["captions"]] == ["first", "second"]


def test_other_columns_are_kept_as_json(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 5, 6, 7, 8, tzinfo=datetime.UTC)
    rows = [{"image": picture(), "n": 3, "f": math.nan, "t": when, "b": b"\xff", "l": [1, None], "d": {"x": "y"}}]
    (sample,) = samples(read(write_table(tmp_path / "t.parquet", rows)))
    assert source_of(sample)["row"] == {
        "n": 3, "f": None, "t": "2024-05-06 07:08:00+00:00", "b": {"base64": "/w=="}, "l": [1, None], "d": {"x": "y"},
    }  # fmt: skip


def test_folders_and_globs_of_tables_are_one_table(tmp_path: Path) -> None:
    for i in range(3):
        write_table(tmp_path / f"{i}.parquet", [{"image": picture(i), "caption": f"{i}-{j}"} for j in range(2)])
    (tmp_path / "readme.csv").write_text("about,this\n")
    for path in (tmp_path, tmp_path / "*.parquet"):
        source = Table(path=str(path))
        assert source.count() == 6
        found = samples(read(path))
        assert [sample.caption for sample in found] == [f"{i}-{j}" for i in range(3) for j in range(2)]
        assert [sample.key for sample in found] == [f"{i:09d}" for i in range(6)]
    (tmp_path / "1.parquet").write_bytes(b"PAR1 damaged")
    assert list(reasons(read(tmp_path)).values()) == ["table_unreadable"]
    assert len(samples(read(tmp_path))) == 4


def test_absolute_paths_are_read_and_not_written_down(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(picture())
    table = write_table(tmp_path / "here" / "t.csv", [{"image": str(tmp_path / "elsewhere" / "a.png"), "caption": "x"}])
    (sample,) = samples(read(table))
    assert source_of(sample)["image"] == "a.png"


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_from_spreadsheets(tmp_path: Path, mark: bytes, delimiter: str) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "t.csv").write_bytes(mark + f"image{delimiter}caption\r\na.png{delimiter}caf".encode() + b"\xe9\r\n")
    (sample,) = samples(read(tmp_path / "t.csv"))
    assert sample.caption == "café"
    assert source_of(sample)["repaired"] == ["caption_not_utf8"]


def test_urls_are_refused_with_the_command_that_downloads_them(tmp_path: Path) -> None:
    rows = [{"url": f"https://host/{i}.jpg", "caption": "x"} for i in range(3)]
    for parameters in ({}, {"image": "url"}):
        with pytest.raises(SourceError, match=r"img2dataset --url_list .*t\.csv --input_format csv --url_col url"):
            Table(path=str(write_table(tmp_path / "t.csv", rows)), **parameters).check()


def test_what_cannot_be_a_table_is_one_clear_error(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", [{"image": "a.png", "captoin": "x"}])
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "utf16.csv").write_bytes("image,caption\n".encode("utf-16"))
    (tmp_path / "empty").mkdir()
    for name, message in {
        "gone.csv": "no such table",
        "t.xlsx": r"ends in \.csv, \.tsv",
        "empty.csv": "is empty",
        "empty.jsonl": "no JSON objects",
        "broken.parquet": "cannot be read as parquet",
        "utf16.csv": "save it as UTF-8",
        "empty": "no tables at",
    }.items():
        with pytest.raises(SourceError, match=message) as caught:
            Table(path=str(tmp_path / name)).check()
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match=r"no column 'caption' in .* Did you mean 'captoin'"):
        Table(path=str(table), caption="caption").check()
    with pytest.raises(SourceError, match=r"no column 'img' in .*Columns: image, captoin"):
        Table(path=str(table), image="img").check()
    with pytest.raises(SourceError, match="Name the key column"):
        Table(path=str(table), key="id").check()
    Table(path=str(table)).check()
    Table(path=str(table), caption=None).check()


def test_captions_under_another_name_are_asked_for_and_never_passed_over(tmp_path: Path) -> None:
    path = write_table(tmp_path / "table.jsonl", [{"image": "a.png", "text": "words"}])
    with pytest.raises(SourceError, match=r"no column 'caption', but 'text'.*caption=text"):
        Table(path=str(path)).check()
    Table(path=str(path), caption="text").check()
    Table(path=str(path), caption=None).check()


def contents(sample: Sample) -> dict[str, bytes]:
    return {name: image.data for name, image in sample.images.items()}


@pytest.mark.parametrize("extension", ["csv", "jsonl", "parquet"])
def test_further_pictures_have_columns(tmp_path: Path, extension: str) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(picture(i))
    rows = [
        {"image": "0.png", "before": "1.png", "the mask": "2.png", "note": "whole"},
        {"image": "0.png", "before": "", "the mask": "gone.png", "note": "in part"},
    ]
    table = write_table(tmp_path / f"t.{extension}", rows)
    whole, part = samples(read(table, caption=None, images={"before": "before", "mask": "the mask"}))
    assert contents(whole) == {"before": picture(1), "mask": picture(2)}
    assert source_of(whole)["pictures"] == {"before": "1.png", "mask": "2.png"}
    assert (contents(part), source_of(part)["repaired"]) == ({}, ["picture_unreadable"])
    assert source_of(part)["pictures_unreadable"] == {"mask": "image_missing: no such file: gone.png"}
    assert source_of(whole)["row"] == {"note": "whole"}
    (first, _) = samples(read(table, caption=None, images=["before"]))
    assert contents(first) == {"before": picture(1)}


def test_of_a_list_of_images_the_first_is_the_main_picture(tmp_path: Path) -> None:
    structs = [{"bytes": picture(i), "path": f"{i}.png"} for i in range(4)]
    rows = [
        {"image": structs, "page": structs[:2]},
        {"image": structs[:1], "page": []},
        {"image": [structs[0], {"bytes": None, "path": "gone.png"}, structs[1]], "page": None},
        {"image": [], "page": None},
    ]
    found = read(write_table(tmp_path / "t.parquet", rows), images={"image1": "page"})
    many, one, part = samples(found)
    assert many.image is not None
    assert many.image.data == picture(0)
    # the names that columns have come first, and lists go round them
    assert contents(many) == {
        "image1": picture(0), "image11": picture(1), "image2": picture(1), "image3": picture(2), "image4": picture(3),
    }  # fmt: skip
    assert contents(one) == {}
    assert (contents(part), [*source_of(part)["pictures_unreadable"]]) == ({"image3": picture(1)}, ["image2"])
    assert reasons(found) == {"000000003": "image_missing"}


def test_a_list_of_paths_in_jsonl(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(picture(i))
    (sample,) = samples(read(write_table(tmp_path / "t.jsonl", [{"image": ["0.png", "1.png", "2.png"]}]), caption=None))
    assert contents(sample) == {"image1": picture(1), "image2": picture(2)}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["befor"], "no column 'befor' .*Did you mean 'before'"),
        (["the mask"], "images: {name: column}"),
        ({"A": "before", "a": "before"}, "take the pictures 'A' and 'a' for one"),
    ],
)
def test_columns_and_names_that_do_not_fit_are_said(tmp_path: Path, images: Any, message: str) -> None:
    table = write_table(tmp_path / "t.jsonl", [{"image": "0.png", "before": "1.png", "the mask": "2.png"}])
    with pytest.raises((SourceError, ValueError), match=message):
        read(table, caption=None, images=images)
