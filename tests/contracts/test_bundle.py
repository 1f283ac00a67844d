"""Bundles: what is written comes back; what was harmed is refused by name; nothing from a bundle is run."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from palate.catalog.registry import create, load
from palate.contracts import bundle as module
from palate.contracts.bundle import MANIFEST, SCHEMA, Bundle, only_one, read_bundle, read_manifest, write_bundle
from palate.contracts.requests import Requests
from palate.data.dataset import Dataset, Entities
from palate.data.fingerprint import file_sha256
from palate.errors import BundleError
from palate.recommend.ease import EASE

FILES = ["histories.safetensors", "items.parquet", "state.safetensors", "users.parquet"]


@pytest.fixture
def parts(tiny_dataset: Dataset) -> Bundle:
    titles = pa.table({"title": [f"Title {n}" for n in range(tiny_dataset.n_items)]})
    items = Entities(tiny_dataset.items.ids, titles)
    state = {"weights": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array([3], np.int64)}
    return Bundle({"system": "sample", "settings": {"dim": 2}}, state, tiny_dataset.users, items, tiny_dataset.histories)


def test_what_is_written_comes_back(parts: Bundle, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "a" / "model", parts)
    assert sorted(p.name for p in folder.iterdir()) == sorted([*FILES, MANIFEST])
    again = read_bundle(folder)
    assert again.manifest["schema"] == SCHEMA and again.manifest["settings"] == {"dim": 2}
    assert again.users.ids == parts.users.ids and again.items.attributes.equals(parts.items.attributes)
    for name, array in parts.state.items():
        assert again.state[name].dtype == array.dtype and again.state[name].tobytes() == array.tobytes()
    for name in ("offsets", "items", "times", "values"):
        np.testing.assert_array_equal(getattr(again.histories, name), getattr(parts.histories, name))
    assert again.histories.actions is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["truncated", "edited", "missing"])
def test_a_harmed_file_is_refused_by_name(parts: Bundle, tmp_path: Path, name: str, harm: str) -> None:
    path = write_bundle(tmp_path / "model", parts) / name
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        edited = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(content[:-1] if harm == "truncated" else edited)
    with pytest.raises(BundleError, match=name) as caught:
        read_bundle(path.parent)
    assert ("missing" in caught.value.what) == (harm == "missing")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "{}", '{"schema": 0}', '{"schema": "1"}', "\udcff"])
def test_a_harmed_manifest_is_refused(parts: Bundle, tmp_path: Path, text: str) -> None:
    folder = write_bundle(tmp_path / "model", parts)
    (folder / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BundleError, match=MANIFEST):
        read_manifest(folder)


def test_a_newer_schema_is_refused(parts: Bundle, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "model", parts)
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, "schema": SCHEMA + 1}))
    with pytest.raises(BundleError, match="schema") as caught:
        read_bundle(folder)
    assert caught.value.value == SCHEMA + 1


def test_no_bundle_here(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"):
        read_bundle(tmp_path)


def forge(folder: Path, **changes: object) -> None:
    """Change the manifest and make all hashes right again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] = {p.name: file_sha256(p) for p in folder.iterdir() if p.name != MANIFEST}
    manifest.update(changes)
    (folder / MANIFEST).write_text(json.dumps({**manifest, "checksum": module.manifest_checksum(manifest)}))


def test_an_edited_manifest_is_refused(parts: Bundle, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "model", parts)
    text = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(text.replace('"dim": 2', '"dim": 3'))
    with pytest.raises(BundleError, match="was changed") as caught:
        read_bundle(folder)
    assert str(caught.value.where).endswith(MANIFEST)
    (folder / MANIFEST).write_text(json.dumps(json.loads(text), indent=None))
    assert read_bundle(folder).manifest["settings"] == {"dim": 2}


def test_files_outside_the_folder_are_refused(parts: Bundle, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "model", parts)
    outside = tmp_path / "secret"
    outside.write_text("x")
    manifest = json.loads((folder / MANIFEST).read_text())
    forge(folder, files={**manifest["files"], "../secret": file_sha256(outside)})
    with pytest.raises(BundleError, match="secret"):
        read_bundle(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_manifest_must_name_every_file(parts: Bundle, tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "model", parts)
    manifest = json.loads((folder / MANIFEST).read_text())
    forge(folder, files={k: v for k, v in manifest["files"].items() if k != name})
    with pytest.raises(BundleError, match=name):
        read_bundle(folder)


def test_well_hashed_nonsense_is_refused(parts: Bundle, tmp_path: Path) -> None:
    for name, harm in (("state.safetensors", b"nonsense"), ("users.parquet", b"PAR1 nonsense")):
        folder = write_bundle(tmp_path / name, parts)
        (folder / name).write_bytes(harm)
        forge(folder)
        with pytest.raises(BundleError, match="can't be read"):
            read_bundle(folder)
    folder = write_bundle(tmp_path / "columns", parts)
    pq.write_table(pa.table({"other": [1]}), folder / "users.parquet")
    forge(folder)
    with pytest.raises(BundleError, match="can't be read"):
        read_bundle(folder)
    folder = write_bundle(tmp_path / "offsets", parts)
    save_file({"items": np.zeros(1, np.int32)}, folder / "histories.safetensors")
    forge(folder)
    with pytest.raises(BundleError, match="can't be read"):
        read_bundle(folder)


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("bomb-went-off"),))


def test_code_in_a_bundle_never_runs(parts: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_bundle(tmp_path / "model", parts)
    (folder / "__init__.py").write_text("from pathlib import Path\nPath('bomb-went-off').touch()\n")
    (folder / "hook.pkl").write_bytes(pickle.dumps(Bomb()))
    forge(folder)
    read_bundle(folder)
    (folder / "state.safetensors").write_bytes(pickle.dumps(Bomb()))
    forge(folder)
    with pytest.raises(BundleError):
        read_bundle(folder)
    assert not (tmp_path / "bomb-went-off").exists()


@pytest.mark.parametrize("system", ["os", "../x", "os:system", "no such system"])
def test_the_system_named_must_be_in_the_catalogue(tiny_dataset: Dataset, tmp_path: Path, system: str) -> None:
    folder = EASE().fit(tiny_dataset).save(tmp_path / "model")
    forge(folder, system=system)
    with pytest.raises(Exception, match="unknown system"):
        load(folder)
    with pytest.raises(BundleError, match="another system"):
        EASE.load(folder)


def test_a_model_comes_back_by_name(tiny_dataset: Dataset, tmp_path: Path) -> None:
    model = EASE(reg=2.0).fit(tiny_dataset, seed=4)
    again = load(model.save(tmp_path / "model", metrics={"ndcg@10": 0.5}))
    assert isinstance(again, EASE) and again.config == model.config and again.record_ == replace(model.record_)
    asked = Requests.of_users(tiny_dataset, np.arange(5))
    np.testing.assert_array_equal(again.recommend(asked, 3).items, model.recommend(asked, 3).items)
    assert read_manifest(tmp_path / "model")["metrics"] == {"ndcg@10": 0.5}


@pytest.mark.parametrize("harm", ["setting", "array", "shape"])
def test_parts_that_fit_no_model_are_refused(tiny_dataset: Dataset, tmp_path: Path, harm: str) -> None:
    """Well hashed, but of a setting that doesn't exist, without an array, or of the wrong shape."""
    if harm == "shape":
        pytest.importorskip("torch")
    model = create("gru4rec", epochs=0, dim=4, hidden=4) if harm == "shape" else EASE()
    folder = model.fit(tiny_dataset).save(tmp_path / "model")
    if harm == "setting":
        forge(folder, settings={"no_such": 1})
    else:
        state = load_file(folder / "state.safetensors")
        counts = {"item_counts": state["item_counts"]}
        state = counts if harm == "array" else state | {"items.weight": np.ones((2, 4), np.float32)}
        save_file(state, folder / "state.safetensors")
        forge(folder)
    with pytest.raises(BundleError, match="don't make") as caught:
        load(folder)
    assert str(caught.value.where) == str(folder)


@pytest.mark.parametrize("exchange", [True, False])
def test_saving_again_replaces_the_bundle_and_leaves_nothing_behind(
    parts: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(module, "_exchanged", lambda *_: False)
    write_bundle(tmp_path / "model", parts)
    write_bundle(tmp_path / "model", replace(parts, manifest={"system": "second"}))
    assert read_bundle(tmp_path / "model").manifest["system"] == "second"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


SAVER = """
import sys
from palate.data.dataset import Dataset
from palate.recommend.ease import EASE
model = EASE().fit(Dataset.from_columns(range(300), range(300)))
model.save(sys.argv[1])
print("saved", flush=True)
while True:
    model.save(sys.argv[1])
"""


def test_a_save_that_is_killed_leaves_a_whole_bundle(tmp_path: Path) -> None:
    """A process that saves over and over is killed with SIGKILL: the bundle can always be read, the old one or the new."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    if not module._exchanged(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system can't exchange two folders in one step")
    target = tmp_path / "model"
    for wait in (0.0, 0.013, 0.05):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(target)], stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"saved\n"
        time.sleep(wait)
        process.kill()
        process.wait(timeout=30)
        assert EASE.load(target).weights_.shape == (300, 300)


def test_other_folders_are_not_overwritten(parts: Bundle, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(BundleError, match="other files"):
        write_bundle(tmp_path, parts)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_failed_save_keeps_the_old_bundle(parts: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "model", parts)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "_write_entities", full)
    with pytest.raises(OSError, match="no space"):
        write_bundle(tmp_path / "model", replace(parts, manifest={"system": "second"}))
    assert read_bundle(tmp_path / "model").manifest["system"] == "sample"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("system", ["this one", "one that can't lock folders"])
def test_changes_of_bundles_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    if system != "this one":
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    done: list[str] = []
    begun = threading.Event()

    def change() -> None:
        begun.set()
        with only_one(tmp_path / "second"):
            done.append("second")

    thread = threading.Thread(target=change)
    with only_one(tmp_path / "first"):
        thread.start()
        assert begun.wait(10)
        time.sleep(0.05)
        done.append("first")
    thread.join()
    assert done == ["first", "second"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't lock a folder")
def test_processes_wait_for_each_other(tmp_path: Path) -> None:
    place = str(tmp_path / "b")
    lines = (
        "from palate.contracts.bundle import only_one",
        "print('here', flush=True)",
        f"with only_one({place!r}): print('mine')",
    )
    with only_one(place):
        other = subprocess.Popen([sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None and other.stdout.readline() == "here\n"
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.3)
    assert other.communicate(timeout=30)[0] == "mine\n"


def test_nobody_can_change_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle"), only_one(tmp_path / "gone" / "b"):
        raise AssertionError("it is not there")
