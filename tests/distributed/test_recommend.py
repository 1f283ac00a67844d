"""Answers on a cluster of two nodes: the same bits as on one machine, whoever dies meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from palate.cli.main import app
from palate.contracts.bundle import read_bundle
from palate.data.protocols import split
from palate.data.split import Split
from palate.distributed.cluster import ray_module
from palate.distributed.recommend import OnRay, _in_order
from palate.errors import ConfigError, DataError, PalateError
from palate.recommend.ials import IALS
from palate.simulate.world import World
from palate.study import questions
from palate.study.answers import SIGN, Here, Question
from palate.study.questions import of_parquet, of_split, of_users

psutil = pytest.importorskip("psutil")
on_cluster = pytest.mark.slow


@pytest.fixture(scope="module")
def parts() -> Split:
    world = World(users=400, items=80, events=8_000, topics=6, min_events=5, seed=1)
    return split(world.dataset(text=False, impressions=False), "leave_one_out")


@pytest.fixture(scope="module")
def model(parts: Split) -> IALS:
    return IALS(dim=16, epochs=2).fit(parts.train)


@pytest.fixture(scope="module")
def work(model: IALS, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundle, and histories of several row groups in two files."""
    folder = tmp_path_factory.mktemp("bulk")
    model.save(folder / "bundle")
    users, (raw, ids) = model.users_.ids.raw, (model.histories_.ragged.tolist(), model.items_.ids)
    lists = [ids.decode(row[::2]).to_pylist() for row in raw]
    table = pa.table({"user": users, "items": lists})
    (folder / "histories").mkdir()
    pq.write_table(table.slice(0, 250), folder / "histories" / "a.parquet", row_group_size=60)
    pq.write_table(table.slice(250), folder / "histories" / "b.parquet")
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "PIECE", 64)


def processes(title: str) -> set[Any]:
    """Return the processes of this cluster's workers that do a thing."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if " ".join(process.cmdline()).startswith(f"ray::{title}"):
                found.add(process)
    return found


@on_cluster
def test_a_split_is_answered_as_on_one_machine(two_nodes: Any, parts: Split, model: IALS, work: Path) -> None:
    question = Question(7, labels=True)
    place = OnRay(ray_module("tests"), read_bundle(work / "bundle"))
    assert place._most() == 2
    there = list(place.answers(of_split(model, parts), question))
    here = list(Here(model).answers(of_split(model, parts), question))
    assert len(here) == 7 and pa.concat_tables(there).equals(pa.concat_tables(here))


@on_cluster
def test_the_command_writes_the_same_parts(two_nodes: Any, work: Path, tmp_path: Path) -> None:
    command = ["recommend", str(work / "bundle"), "--histories", str(work / "histories"), "--format", "parts", "-k", "5"]
    for engine in ("local", "ray"):
        done = CliRunner().invoke(app, [*command, "--engine", engine, "--out", str(tmp_path / engine)])
        assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "local").iterdir())
    assert names == [SIGN, *(f"part-{first:012d}.parquet" for first in (0, 60, 120, 180, 240, 250))]
    assert names == sorted(path.name for path in (tmp_path / "ray").iterdir())
    for name in names:
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes(), name


@on_cluster
def test_an_actor_that_is_killed_loses_nothing(two_nodes: Any, model: IALS, work: Path) -> None:
    names = list(map(str, model.users_.ids.raw.to_pylist())) * 40
    place = OnRay(ray_module("tests"), read_bundle(work / "bundle"))
    found, seen = [], set()
    for block in place.answers(of_users(model, names), Question(3)):
        found.append(block)
        actors = processes("MapWorker")
        if not seen:
            victim = next(iter(actors))
            victim.kill()
            assert sum(b.num_rows for b in found) < len(names) / 4, "it died in the middle"
        seen |= actors
    assert not victim.is_running() and len(seen) >= 3, "another process took its place"
    assert pa.concat_tables(found).equals(pa.concat_tables(Here(model).answers(of_users(model, names), Question(3))))


@on_cluster
def test_what_is_wrong_with_the_data_is_told_as_on_one_machine(two_nodes: Any, work: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": ["a", "b"], "items": [[1], [2]], "times": [[1], [1, 2]]}), tmp_path / "h.parquet")
    place = OnRay(ray_module("tests"), read_bundle(work / "bundle"))
    with pytest.raises(DataError, match="items and times differ in length") as told:
        list(place.answers(of_parquet(tmp_path / "h.parquet"), Question(3)))
    assert told.value.where == "user b"
    with pytest.raises(ConfigError, match="no node has cores"):
        list(OnRay(place.ray, place.bundle, cores=64).answers(of_parquet(tmp_path / "h.parquet"), Question(3)))


def blocks(*spans: tuple[int, int]) -> Iterator[pa.Table]:
    return (pa.table({"row": list(range(start, stop))}) for start, stop in spans)


def test_blocks_that_are_missing_or_come_twice_are_noticed() -> None:
    assert [b.num_rows for b in _in_order(blocks((0, 3), (3, 3), (3, 5)), 5)] == [3, 0, 2]
    written = [pa.table({"row": [0, 4], "people": [4, 2], "cold": [0, 0]}), pa.table({"row": [6], "people": [1], "cold": [0]})]
    assert len(list(_in_order(written, 7))) == 2
    for wrong in (((0, 3), (4, 5)), ((0, 3), (0, 3)), ((3, 5), (0, 3))):
        with pytest.raises(PalateError, match="out of order"):
            list(_in_order(blocks(*wrong), 5))
    with pytest.raises(PalateError, match="missing"):
        list(_in_order(blocks((0, 3)), 5))
    with pytest.raises(PalateError, match="out of order"):
        list(_in_order([written[1]], 1))
