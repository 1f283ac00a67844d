"""Parts of an interrupted run are taken up, and only by the same program on the same data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palate.errors import DataError
from palate.study.claims import Claim, discover, run_claim
from palate.study.kept import Kept, state_of_code

PROGRAM = '''
"""A claim that ends in the middle the first time."""
import os
from pathlib import Path
from palate.study.claims import Bar, Claim, Effect

CALLS = Path(__file__).with_name("calls")

def fit(seed):
    CALLS.write_text((CALLS.read_text() if CALLS.exists() else "") + str(seed))
    if seed == 2 and CALLS.read_text().count("2") == 1:
        raise KeyboardInterrupt
    return 0.1 * seed

def run(trial):
    values = [trial.kept(lambda: fit(seed), seed=seed) for seed in trial.seeds]
    return {"gain": Effect.exact(sum(values))}

CLAIM = Claim(name="one", title="x", statement="x", bars={"gain": Bar(0.2)}, run=run, seeds=(1, 2, 3))
'''


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache" / "data"))


def test_parts_come_back_as_they_were(tmp_path: Path) -> None:
    part = {
        "array": np.array([[1.5, np.nan], [1e-300, np.pi]]),
        "small": np.arange(3, dtype=np.float32) / 3,
        1: (True, None, [2, "text", np.float64(0.1)]),
        "empty": np.zeros((0, 2), np.int32),
    }
    made = Kept(tmp_path / "a").get({"seed": 1}, lambda: part)
    assert made is part

    def never() -> Any:
        raise AssertionError("made again")

    kept = Kept(tmp_path / "a")
    found = kept.get({"seed": 1}, never)
    assert list(found) == list(part) and found[1] == part[1]
    for name in ("array", "small", "empty"):
        assert found[name].dtype == part[name].dtype and found[name].shape == part[name].shape
        np.testing.assert_array_equal(found[name], part[name])
    assert kept.found == 1
    assert kept.get({"seed": 2}, lambda: 5) == 5


def test_a_folder_of_ones_own_leaves_what_stands_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    Kept(tmp_path / "a").get({}, lambda: 1)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_parts_of_an_older_program_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for state in ("old", "new"):
        monkeypatch.setattr("palate.study.kept.state_of_code", lambda program, state=state: state)
        kept = Kept.of("one")
        kept.get({}, lambda: 1)
        folders.append(kept.folder)
    assert [folder.exists() for folder in folders] == [False, True] and folders[0].parent == folders[1].parent


def test_what_can_not_be_kept_is_told_and_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="set can't be kept"):
        Kept(tmp_path / "a").get({}, lambda: {1, 2})
    assert not list((tmp_path / "a").glob("*.json"))


def test_a_damaged_part_is_told(tmp_path: Path) -> None:
    Kept(tmp_path / "a").get({}, lambda: 1)
    [path] = (tmp_path / "a").glob("*.json")
    path.write_text(path.read_text()[:10])
    with pytest.raises(DataError, match="can't be read"):
        Kept(tmp_path / "a").get({}, lambda: 1)


def test_an_interrupted_claim_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(PROGRAM)
    claim: Claim = discover(tmp_path)[0]
    with pytest.raises(KeyboardInterrupt):
        run_claim(claim, tmp_path)
    result = run_claim(claim, tmp_path)
    assert (tmp_path / "calls").read_text() == "1223"
    assert result["taken up"] == 1
    assert result["effects"]["gain"]["value"] == pytest.approx(0.6)
    assert json.loads((tmp_path / "results" / "one.json").read_text())["taken up"] == 1
    assert run_claim(claim, tmp_path)["taken up"] == 0  # a run that ended leaves nothing
    assert (tmp_path / "calls").read_text() == "1223123"


def test_another_program_takes_nothing_up(tmp_path: Path) -> None:
    program = tmp_path / "one.py"
    program.write_text(PROGRAM)
    before = state_of_code(program)
    assert before == state_of_code(program)
    with pytest.raises(KeyboardInterrupt):
        run_claim(discover(tmp_path)[0], tmp_path)
    program.write_text(PROGRAM.replace("0.1 *", "0.2 *"))
    assert state_of_code(program) != before
    assert run_claim(discover(tmp_path)[0], tmp_path)["taken up"] == 0
    assert len(list((tmp_path / "cache" / "claims" / "one").iterdir())) <= 1


def test_what_a_program_loads_from_beside_itself_is_part_of_it(tmp_path: Path) -> None:
    program, near, far, other = (tmp_path / name for name in ("one.py", "_near.py", "_far.py", "_other.py"))
    program.write_text("from _near import of\n")
    near.write_text("from _far import of\n")
    far.write_text("of = 1\n")
    other.write_text("of = 1\n")
    before = state_of_code(program)
    other.write_text("of = 2\n")
    assert state_of_code(program) == before
    far.write_text("of = 2\n")
    assert state_of_code(program) != before


def test_fresh_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(PROGRAM)
    with pytest.raises(KeyboardInterrupt):
        run_claim(discover(tmp_path)[0], tmp_path)
    assert run_claim(discover(tmp_path)[0], tmp_path, fresh=True)["taken up"] == 0
