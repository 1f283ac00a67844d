"""Systems by name: ours, those of other packages, and what is said when one can't be had."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from palate.catalog.registry import create, get, load, systems
from palate.errors import ConfigError, MissingExtraError

ROOT = Path(__file__).parents[2]

MODULE = '''
import numpy as np

from palate.catalog.system import System
from palate.contracts.config import Config
from palate.contracts.recommender import Recommender


class Newest(Recommender):
    """The items that were seen first of all come last."""

    name = "newest"
    Settings = Config

    def _fit(self, dataset, fitting):
        self.order_ = np.arange(dataset.n_items, dtype=np.float32)

    def _scores(self, requests):
        return np.tile(self.order_, (len(requests), 1))

    def _state(self):
        return {"order": self.order_}

    def _restore(self, state):
        self.order_ = state["order"]


ROW = System("newest", "Newest", "recommend", "rules", "palate_newest:Newest", origin="palate-newest")
ROWS = [ROW]
TAKEN = System("ease", "Another EASE", "recommend", "linear", "palate_newest:Newest", origin="palate-newest")
NO_ROW = ["newest"]
'''


def install(folder: Path, target: str) -> None:
    """Put a package with one entry point into a folder, as an installer does."""
    (folder / "palate_newest.py").write_text(MODULE)
    info = folder / "palate_newest-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: palate-newest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[palate.systems]\nnewest = palate_newest:{target}\n")


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    monkeypatch.syspath_prepend(tmp_path)
    systems.cache_clear()
    yield tmp_path
    systems.cache_clear()
    sys.modules.pop("palate_newest", None)


@pytest.mark.parametrize("target", ["ROW", "ROWS"])
def test_a_package_brings_a_system_into_every_table(foreign: Path, target: str, tiny_dataset, small_split) -> None:
    from palate.study.compare import compare

    install(foreign, target)
    assert systems()["newest"].origin == "palate-newest"
    model = create("newest").fit(tiny_dataset)
    model.save(foreign / "model")
    assert type(load(foreign / "model")).__name__ == "Newest"
    report = compare(small_split, ["popularity", "newest"])
    assert {row["System"] for row in report.table()} == {"Popularity", "Newest"}


def test_it_stands_in_the_command_line_like_our_own(foreign: Path) -> None:
    install(foreign, "ROW")
    command = [sys.executable, "-m", "palate.cli.main", "models", "newest"]
    environment = {**os.environ, "PYTHONPATH": str(foreign)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "palate-newest" in done.stdout and "works" in done.stdout


@pytest.mark.parametrize(
    ("target", "told"),
    [("TAKEN", "the same name"), ("NO_ROW", "no row of the catalogue"), ("ABSENT", "can't be loaded")],
)
def test_a_bad_package_is_named(foreign: Path, target: str, told: str) -> None:
    install(foreign, target)
    with pytest.raises(ConfigError, match=told) as caught:
        systems()
    assert f"palate_newest:{target} of palate-newest" in str(caught.value)


def test_names_that_are_wrong_or_planned() -> None:
    with pytest.raises(ConfigError, match="did you mean 'ials'"):
        get("iALS")
    with pytest.raises(ConfigError, match="planned, not built yet"):
        create(next(name for name, system in systems().items() if system.status == "planned"))


def test_what_a_system_needs_is_named_with_its_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    system = systems()["sasrec"]
    monkeypatch.delitem(sys.modules, "palate.recommend.sasrec", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r'SASRec needs torch.*\n.*pip install "palate\[torch\]"'):
        system.load()


def test_claims_of_systems_that_work_are_programs() -> None:
    for system in systems().values():
        if system.status == "works" and system.claim:
            assert (ROOT / "claims" / f"{system.claim}.py").is_file(), system.name
        if system.paper is not None:
            assert system.claim == system.name
