"""What others made cannot run here, cannot leave the output folder, and is told no secrets."""

import io
import json
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmsynth as mm
from mmsynth.cli import run
from mmsynth.engine.run import repair
from mmsynth.errors import MMSynthError, ModelError, PluginError, RecipeError
from mmsynth.keys import safe_key
from mmsynth.recipe import Recipe, RunOptions
from mmsynth.secrets import without_secrets
from mmsynth.testing import photo_samples
from tests.engine.run_files import members, rows


class Runs:
    """Unpickled, it makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that is there once a pickle has been loaded or code has run."""
    return tmp_path / "owned"


def picture() -> bytes:
    image = photo_samples(1)[0].image
    assert image is not None
    return image.data


# -- pickles ----------------------------------------------------------------------------------------------------------


def test_members_that_webdataset_would_unpickle_come_through_as_bytes(tmp_path: Path, mark: Path) -> None:
    evil = pickle.dumps(Runs(mark))
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for name in ("k.png", "k.pyd", "k.pickle", "k.pth", "k.npy", "k.json"):
            data = picture() if name == "k.png" else evil
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    report = mm.read(tmp_path / "in.tar").filter("image_size").write(tmp_path / "out")
    assert (report.kept, mark.exists()) == (1, False)
    assert members(tmp_path / "out")["k"]["pyd"] == evil


def test_arrays_that_are_pickles_are_refused(tmp_path: Path, mark: Path) -> None:
    mm.scenes(6, seed=1).render("scenes").filter("perceptual_hash").write(tmp_path / "out")
    (array,) = (tmp_path / "out").glob("*_phash.npy")
    np.save(array, np.array([Runs(mark)] * 6, dtype=object), allow_pickle=True)
    assert run(["select", str(tmp_path / "out"), str(tmp_path / "chosen"), "--near-duplicates", "hash"]) != 0
    with pytest.raises((MMSynthError, ValueError)):
        mm.select(tmp_path / "out").write(tmp_path / "all")
    assert not mark.exists()


def test_a_parquet_file_with_an_arrow_type_that_is_a_pickle(tmp_path: Path, mark: Path) -> None:
    about = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Runs(mark))}
    schema = pa.schema([pa.field("image", pa.binary()), pa.field("n", pa.int64(), metadata=about)])
    pq.write_table(pa.table([[picture()], [1]], schema=schema), tmp_path / "t.parquet")
    report = mm.read(tmp_path / "t.parquet").write(tmp_path / "out")
    assert (report.kept, mark.exists()) == (1, False)


@pytest.mark.parametrize("verb", ["caption", "filter", "render"])
def test_a_model_with_pickled_weights_alone_is_not_loaded(tmp_path: Path, mark: Path, verb: str) -> None:
    from shutil import copytree

    import mmsynth_captioners
    import mmsynth_filters
    import mmsynth_renderers

    stage, package, nano = {
        "caption": ("vlm", mmsynth_captioners, "nano_vlm"),
        "filter": ("clip", mmsynth_filters, "nano_clip"),
        "render": ("diffusion", mmsynth_renderers, "nano_diffusion"),
    }[verb]
    folder = copytree(Path(str(package.__file__)).parent / nano, tmp_path / "model")
    for weights in list(folder.rglob("*.safetensors")):
        for name in ("pytorch_model.bin", "diffusion_pytorch_model.bin", "open_clip_pytorch_model.bin", "model.pt"):
            weights.with_name(name).write_bytes(pickle.dumps(Runs(mark)))
        weights.unlink()
    source = mm.scenes(2, world="nano") if verb == "render" else mm.scenes(2, world="nano").render("scenes")
    with pytest.raises(ModelError, match="safetensors"):
        getattr(source, verb)(stage, model=str(folder)).take(1)
    assert not mark.exists()


# -- code -------------------------------------------------------------------------------------------------------------


def with_own_code(folder: Path, mark: Path, classes: dict[str, str]) -> Path:
    """A checkpoint whose configuration names code that lies beside it."""
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\nfrom transformers import PretrainedConfig\n"
    (folder / "own.py").write_text(code + "class Own(PretrainedConfig):\n    model_type = 'own'\n")
    config = {"model_type": "own", "architectures": ["Own"], "auto_map": {name: "own.Own" for name in classes}}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "good", "1": "bad"}}))
    (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return folder


_AUTO = {
    "AutoConfig": "",
    "AutoModelForImageTextToText": "",
    "AutoModelForImageClassification": "",
    "AutoTokenizer": "",
}


@pytest.mark.parametrize(
    ("verb", "stage", "parameters"),
    [("caption", "vlm", {}), ("filter", "image_classifier", {"labels": ["bad"]})],
)
def test_a_checkpoints_own_code_is_not_run(
    tmp_path: Path, mark: Path, verb: str, stage: str, parameters: dict[str, Any]
) -> None:
    folder = with_own_code(tmp_path / "model", mark, _AUTO)
    made = getattr(mm.scenes(2).render("scenes"), verb)(stage, model=str(folder), **parameters)
    with pytest.raises(ModelError):
        made.take(1)
    assert not mark.exists()


def test_a_pipelines_own_code_is_not_run(tmp_path: Path, mark: Path) -> None:
    from shutil import copytree

    import mmsynth_renderers

    folder = copytree(Path(str(mmsynth_renderers.__file__)).parent / "nano_diffusion", tmp_path / "model")
    index = json.loads((folder / "model_index.json").read_text())
    name = next(name for name, entry in index.items() if "UNet" in str(entry) or "Transformer2D" in str(entry))
    index[name] = ["own", "Own"]
    (folder / "model_index.json").write_text(json.dumps(index))
    for place in (folder, folder / name):
        (place / "own.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass Own: pass\n")
    with pytest.raises(ModelError):
        mm.scenes(2, world="nano").render("diffusion", model=str(folder)).take(1)
    assert not mark.exists()


def test_a_datasets_own_script_is_not_run(tmp_path: Path, mark: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "photos.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    (folder / "train.jsonl").write_text('{"caption": "words"}\n')
    with pytest.raises(MMSynthError):
        mm.source("huggingface", path=str(folder)).write(tmp_path / "out")
    assert not mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [MARK]",
        "source: !!python/object/new:os.system [touch MARK]",
        "source: {kind: scenes, n: !!python/name:os.system }",
        "source: {kind: '!!python/object/apply:os.system [touch MARK]'}",
    ],
)
def test_a_recipe_runs_no_code(tmp_path: Path, mark: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text.replace("MARK", str(mark)))
    with pytest.raises(MMSynthError):
        Recipe.from_file(tmp_path / "recipe.yaml")
    assert run(["filter", str(tmp_path), str(tmp_path / "out"), "--set", text.replace("MARK", str(mark))]) != 0
    assert not mark.exists()


_OWN = "from pathlib import Path\nimport mmsynth as mm\nPath({mark!r}).touch()\nclass Own(mm.Filter):\n"
_OWN += "    def process(self, batch):\n        return list(batch)\n"


@pytest.mark.parametrize("place", ["recipe.yaml", "run.json"])
def test_a_recipe_runs_no_module_beside_it_unless_it_is_asked_for(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = f"beside_{place.partition('.')[0]}"
    (tmp_path / f"{module}.py").write_text(_OWN.format(mark=str(mark)))
    recipe = {"source": {"kind": "scenes", "n": 2}, "stages": [{"filter": f"{module}:Own"}], "out": {"path": "out"}}
    (tmp_path / place).write_text(json.dumps({"recipe": recipe, "fingerprint": "f"} if place == "run.json" else recipe))
    assert run(["run", place]) == PluginError.exit_code
    if place == "run.json":
        with pytest.raises(PluginError, match="which no recipe runs by itself"):
            repair(tmp_path, RunOptions())
    assert not mark.exists()
    assert run(["run", place, "--import", module]) == 0
    assert mark.exists()


def test_a_recipe_runs_no_code_of_a_model_unless_it_is_asked_for(
    tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmsynth.models.loading._trusted", set())
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(
        json.dumps({"model_type": "new", "auto_map": {"AutoConfig": "code.C", "AutoModelForImageTextToText": "code.M"}})
    )
    (model / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (model / "code.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\n")
    stage = {"caption": "vlm", "model": str(model), "trust_remote_code": True}
    recipe = {"source": {"kind": "scenes", "n": 2}, "stages": [{"render": "scenes"}, stage], "out": {"path": "out"}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    with pytest.raises(RecipeError, match="if you trust it, --trust"):
        Recipe.from_file(tmp_path / "recipe.yaml")
    command = ["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    assert run(command) == RecipeError.exit_code
    assert not mark.exists()
    run([*command, "--trust", str(model)])  # which fails: the code holds no model
    assert mark.exists()


@pytest.mark.parametrize("name", ["unittest.__main__:main", "idlelib.idle:x", "this:s", "no.such.module:X"])
def test_a_recipe_imports_nothing_that_is_installed_either(name: str) -> None:
    with pytest.raises(PluginError, match="which no recipe runs by itself"):
        Recipe.from_dict({"source": {"kind": name}})
    assert name.partition(":")[0] not in sys.modules


def test_a_stage_that_is_no_stage_is_refused() -> None:
    with pytest.raises(MMSynthError):
        Recipe.from_dict(
            {"source": {"kind": "scenes", "n": 1}, "stages": [{"filter": "subprocess:Popen", "args": "ls"}]}
        )
    with pytest.raises(RecipeError):
        Recipe.from_dict({"source": {"kind": "pathlib:Path"}})


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../../up", "/etc/passwd", "..", ".", "", "a/../b", "C:\\x", "nul\0", "~", "a\nb", "ä" * 500, "-rf", "k.tar"],
)
def test_a_key_is_a_plain_name(name: str) -> None:
    key = safe_key(name)
    assert key
    assert all(character.isascii() and (character.isalnum() or character in "_-") for character in key)
    assert len(key) <= 120


def test_keys_of_a_table_stay_in_the_output_folder(tmp_path: Path) -> None:
    keys = ["../../up", "/abs", "..", "a/b"]
    pq.write_table(pa.table({"image": [picture()] * 4, "id": keys}), tmp_path / "t.parquet")
    mm.read(tmp_path / "t.parquet", key="id").write(tmp_path / "in" / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"t.parquet", "in"}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"out"}
    assert all("/" not in key and "." not in key for key in members(tmp_path / "in" / "out"))


# -- secrets ----------------------------------------------------------------------------------------------------------

SECRET = "hunter2-very-secret"


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (f"https://me:{SECRET}@host/a.tar", "https://host/a.tar"),
        (f"https://{SECRET}@host/{{0..9}}.tar?version=3", "https://host/{0..9}.tar?version=3"),
        (f"https://host/a.tar?X-Amz-Signature={SECRET}&v=1", "https://host/a.tar?X-Amz-Signature=&v=1"),
        (f"simplecache::s3://me:{SECRET}@bucket/a.tar", "simplecache::s3://bucket/a.tar"),
        ({"api_key": SECRET, "n": 1}, {"api_key": None, "n": 1}),
        ({"storage_options": {"key": "k", "secret": SECRET}}, {"storage_options": None}),
        *(
            ({name: SECRET}, {name: None})
            for name in ("aws_secret_access_key", "access_key", "private_key", "account_key")
        ),
        *(({name: SECRET}, {name: None}) for name in ("auth", "Authorization", "passwd", "passphrase", "credential")),
        ({"headers": {"Authorization": f"Bearer {SECRET}"}}, {"headers": {"Authorization": None}}),
        ({"api_keys": [SECRET]}, {"api_keys": None}),
        ("say hf_" + "a" * 34 + " twice", "say … twice"),
        ({"prompt": "the bearer of the ring", "text_keys": ["caption"], "author": "me", "max_new_tokens": 30},) * 2,
        ({"stop_tokens": ["</s>"]},) * 2,
        (["what colour is the key?", "me@home.org"], ["what colour is the key?", "me@home.org"]),
    ],
)
def test_secrets_are_left_out(given: Any, written: Any) -> None:
    assert without_secrets(given) == written


def test_no_secret_is_written_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import fsspec

    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        member = tarfile.TarInfo("k.png")
        member.size = len(picture())
        tar.addfile(member, io.BytesIO(picture()))
    fsspec.filesystem("memory").pipe("/in.tar", (tmp_path / "in.tar").read_bytes())
    url = f"memory://in.tar?token={SECRET}"
    fsspec.filesystem("memory").pipe(f"/in.tar?token={SECRET}", (tmp_path / "in.tar").read_bytes())
    report = mm.read(url).filter("image_size").write(tmp_path / "out")
    assert report.kept == 1
    with pytest.raises(MMSynthError) as refused:
        mm.source("webdataset", path=f"http://me:{SECRET}@localhost:1/a.tar").write(tmp_path / "other")
    assert SECRET not in str(refused.value)
    assert run(["filter", f"http://me:{SECRET}@localhost:1/{{0..", str(tmp_path / "third")]) != 0
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert SECRET.encode() not in path.read_bytes(), path
    told = capfd.readouterr()
    assert SECRET not in told.out + told.err + caplog.text


class Tells(mm.Filter):
    """Raises what a library that talks to a server may raise, in `process` or in `prepare`."""

    early: bool = False

    def prepare(self, sample: mm.Sample) -> None:
        if self.early:
            raise RuntimeError(ANSWER)

    def process_prepared(self, batch: Any, prepared: Any) -> list[Any]:
        raise RuntimeError(ANSWER)


ANSWER = (
    f"403 for https://me:{SECRET}@host/a?token={SECRET}: Authorization: Bearer {SECRET}, {'hf_' + 'a' * 34}, {SECRET}"
)


@pytest.mark.parametrize("early", [False, True])
def test_no_secret_of_an_error_stands_in_rows_or_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, early: bool
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    mm.scenes(2).render("scenes").filter(Tells(early=early)).write(tmp_path / "out")
    told = caplog.text + "".join(str(row["detail"]) for row in rows(tmp_path / "out"))
    assert "403 for https://host/a?token=" in told
    assert SECRET not in told
    assert "hf_a" not in told


def test_no_secret_of_an_address_in_a_table_stands_in_its_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"image,caption\nk.png,x\nhttps://host/a.jpg?X-Amz-Signature={SECRET},y\n")
    (tmp_path / "k.png").write_bytes(picture())
    mm.read(tmp_path / "t.csv").write(tmp_path / "out")
    (bad,) = (row for row in rows(tmp_path / "out") if row["status"] == "failed")
    assert bad["reason"] == "image_is_url"
    assert SECRET not in str(bad)
    for path in (tmp_path / "out").iterdir():
        assert SECRET.encode() not in path.read_bytes(), path


def test_the_command_line_tells_no_secret_of_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert run(["run", str(tmp_path / SECRET / "recipe.yaml")]) != 0
    assert "cannot read the recipe" in (said := capsys.readouterr().err)
    assert SECRET not in said
