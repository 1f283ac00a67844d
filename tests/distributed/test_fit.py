"""Fits on two Ray nodes: the steps of one process, a worker killed in an epoch, refusals, errors, the command line.

Tolerances, of two workers against one process with ``accumulate=2``: without dropout only the order of additions differs, 1e-4
relative. With dropout the second worker's masks differ: the loss of the last epoch within 5%, validation NDCG@10 within 0.05.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from palate.catalog.registry import create, load
from palate.cli.main import app
from palate.contracts.requests import Requests
from palate.data.protocols import split
from palate.data.split import Split
from palate.data.split_files import write_split
from palate.distributed.fit import _Run, fit_on_workers, room
from palate.distributed.relay import Relay
from palate.errors import ConfigError, TrainingError
from palate.progress import ProgressEvent, silent
from palate.recommend.sasrec import SASRec
from palate.simulate.world import World, WorldConfig
from palate.training.sequences import PackedSequences

pytestmark = pytest.mark.slow

LIGHTGCN = {"epochs": 3, "dim": 8, "batch_size": 256, "patience": 0}
SASREC = {"epochs": 5, "dim": 8, "batch_size": 128, "n_negatives": 32, "patience": 0}


@pytest.fixture(scope="module")
def parts() -> Split:
    return split(World(WorldConfig(users=120, items=60, events=2_500, seed=1)).dataset(), "leave_one_out")


def scores(model: Any, parts: Split) -> np.ndarray:
    held_out = parts.held_out("valid")
    items = np.tile(np.arange(model.n_items, dtype=np.int32), (len(held_out), 1))
    return model.score(Requests.of_held_out(held_out), items)


def curve(model: Any, column: int) -> list[float]:
    return [point[column] for point in model.record_.notes["curve"]]


def on_two(system: Any, settings: dict[str, Any], parts: Split, out: Path, **options: Any) -> Any:
    return fit_on_workers(system, settings, parts.train, parts.held_out("valid"), workers=2, out=out, seed=3, **options)


@pytest.fixture(scope="module")
def by_command(two_nodes: Any, parts: Split, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """SASRec, with dropout and drawn negatives, fitted on two workers by the command line: its folder and what was printed."""
    folder = tmp_path_factory.mktemp("command")
    write_split(parts, folder / "split")
    asked = ["fit", "sasrec", "--data", str(folder / "split"), "--out", str(folder / "model"), "--seed", "3"]
    asked += ["--workers", "2", "--log", str(folder / "log"), "--storage", str(folder / "storage")]
    done = CliRunner().invoke(app, asked + [word for k, v in SASREC.items() for word in ("--set", f"{k}={v}")])
    assert done.exit_code == 0, done.output
    return folder, done.output


@pytest.fixture(scope="module")
def undisturbed(by_command: tuple[Path, str]) -> Any:
    return load(by_command[0] / "model")


def test_two_workers_equal_one_process(two_nodes: Any, parts: Split, tmp_path: Path) -> None:
    events: list[ProgressEvent] = []
    heard: list[Any] = []
    out = tmp_path / "model"
    shared = on_two("lightgcn", LIGHTGCN, parts, out, progress=events.append, callbacks=[heard.append])
    alone = create("lightgcn", **LIGHTGCN, accumulate=2).fit(parts.train, parts.held_out("valid"), seed=3)
    np.testing.assert_allclose(curve(shared, 1), curve(alone, 1), rtol=1e-4)
    np.testing.assert_allclose(curve(shared, 2), curve(alone, 2), atol=0.01)
    np.testing.assert_allclose(scores(shared, parts), scores(alone, parts), rtol=1e-3, atol=1e-4)
    apart = create("lightgcn", **LIGHTGCN).fit(parts.train, parts.held_out("valid"), seed=3)
    assert not np.allclose(scores(apart, parts), scores(alone, parts), rtol=1e-3, atol=1e-4)
    assert [(e.done, e.total) for e in events if e.stage == "LightGCN: epoch"] == [(1, 3), (2, 3), (3, 3)]
    assert [event.history[-1]["loss"] for event in heard] == curve(shared, 1)
    np.testing.assert_array_equal(scores(load(out), parts), scores(shared, parts))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_with_dropout_they_learn_as_well(undisturbed: Any, parts: Split) -> None:
    alone = create("sasrec", **SASREC, accumulate=2).fit(parts.train, parts.held_out("valid"), seed=3)
    assert curve(undisturbed, 1)[-1] == pytest.approx(curve(alone, 1)[-1], rel=0.05)
    assert undisturbed.record_.notes["best_value"] == pytest.approx(alone.record_.notes["best_value"], abs=0.05)


def test_a_worker_killed_in_mid_epoch(undisturbed: Any, parts: Split, tmp_path: Path) -> None:
    """SIGKILL at the second worker's second step of epoch 4: the fit goes on from a checkpoint, and ends with the same bits."""
    mark = tmp_path / "killed"

    class Killed(SASRec):
        epoch, batches = 0, 0

        def fit(self, *data: Any, callbacks: Any = (), **options: Any) -> Any:
            def note(event: Any) -> None:
                self.epoch, self.batches = event.epoch, 0

            return super().fit(*data, callbacks=[*callbacks, note], **options)

        def _loss(self, step: Any, generator: Any) -> Any:
            from torch import distributed

            self.batches += 1
            if (self.epoch, self.batches, distributed.get_rank()) == (3, 2, 1) and not mark.exists():
                mark.write_text("2 batches into epoch 4")
                os.kill(os.getpid(), signal.SIGKILL)
            return super()._loss(step, generator)

    plan = PackedSequences(parts.train.histories, SASRec().config.max_len, SASREC["batch_size"])
    assert len(plan.epoch(np.random.default_rng(0))) > 8  # so the second step is no last one
    events: list[ProgressEvent] = []
    heard: list[int] = []
    fitted = on_two(
        Killed, SASREC, parts, tmp_path / "model", progress=events.append, callbacks=[lambda e: heard.append(e.epoch)]
    )
    assert mark.exists()
    resumed = [event.done for event in events if event.stage == "SASRec: resumed"]
    assert resumed in ([2], [3])  # the checkpoint of the last report may have been on its way
    assert heard == [1, 2, 3, *range(resumed[0] + 1, 6)]
    np.testing.assert_array_equal(scores(fitted, parts), scores(undisturbed, parts))
    assert fitted.record_.notes == undisturbed.record_.notes


def test_a_loss_that_is_not_a_number_reaches_the_caller(two_nodes: Any, parts: Split, tmp_path: Path) -> None:
    """It is not tried again: an error of our own would come again."""
    starts = tmp_path / "starts"

    class Broken(SASRec):
        def _loss(self, step: Any, generator: Any) -> Any:
            from torch import distributed

            if not hasattr(self, "begun"):
                self.begun = True
                with open(starts, "a") as stream:
                    stream.write("x")
            value = super()._loss(step, generator)
            return value * float("nan") if distributed.get_rank() == 1 else value

    with pytest.raises(TrainingError, match="the loss is not a number") as caught:
        on_two(Broken, SASREC, parts, tmp_path / "model")
    assert "epoch 1, batch 2" in str(caught.value) and "lower lr" in str(caught.value)
    assert starts.read_text() == "xx"
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("system", ["ease", "bpr_mf"])
def test_what_takes_no_gradient_steps_is_refused_before_anything_starts(parts: Split, tmp_path: Path, system: str) -> None:
    with pytest.raises(ConfigError, match="doesn't learn by gradient steps") as caught:
        on_two(system, {}, parts, tmp_path / "model", address="nowhere:1")
    assert "lightgcn" in str(caught.value) and "sasrec" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_workers_need_room(two_nodes: Any, parts: Split, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no room"):
        fit_on_workers("lightgcn", {}, parts.train, workers=3, out=tmp_path / "model")

    def nodes(*cores: int, gpus: int = 0) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": float(c), "GPU": float(gpus)}} for c in cores]

    assert [room(nodes(8, 8), n) for n in (1, 2, 3, 4, 5, 16)] == [8, 8, 4, 4, 2, 1]
    assert room(nodes(3, 1), 2) == 1
    assert room(nodes(8, 8), 2, cpus=3) == 3
    assert room(nodes(8, 8, gpus=1), 2, gpu=True) == 8
    for wrong in ({"workers": 3, "gpu": True}, {"workers": 3, "cpus": 8}):
        with pytest.raises(ConfigError, match="no room"):
            room(nodes(8, 8, gpus=1), **wrong)
    with pytest.raises(ConfigError, match="no room"):
        room([{"Alive": False, "Resources": {"CPU": 8.0}}], 1)


def test_the_command(by_command: tuple[Path, str]) -> None:
    folder, printed = by_command
    assert "SASRec(" in printed and "fitted in" in printed and f"Saved to {folder / 'model'}" in printed
    assert [json.loads(line)["epoch"] for line in (folder / "log").read_text().splitlines()] == [1, 2, 3, 4, 5]
    fitted = load(folder / "model")
    assert fitted.record_.seed == 3 and fitted.record_.notes["epochs"] == 5
    assert list((folder / "storage").iterdir())  # one that is named stays


def test_the_same_fit_goes_on_from_its_storage(by_command: tuple[Path, str], parts: Split, tmp_path: Path) -> None:
    """As after the caller was killed; more epochs are still the same fit."""
    events: list[ProgressEvent] = []
    longer, storage = {**SASREC, "epochs": 6}, by_command[0] / "storage"
    fitted = on_two("sasrec", longer, parts, tmp_path / "model", storage=storage, progress=events.append)
    assert [event.done for event in events if event.stage == "SASRec: resumed"] == [5]
    assert [event.done for event in events if event.stage == "SASRec: epoch"] == [6]
    assert fitted.record_.notes["curve"][:5] == load(by_command[0] / "model").record_.notes["curve"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--workers", "2", "--checkpoint", "c"], "--storage"),
        (["--storage", "s"], "--workers"),
        (["--address", "here:1"], "--workers"),
    ],
)
def test_options_without_meaning_are_refused(tmp_path: Path, options: list[str], word: str) -> None:
    done = CliRunner().invoke(app, ["fit", "lightgcn", "--data", "none", "--out", str(tmp_path / "model"), *options])
    assert done.exit_code == 2 and word in done.output


class Local:
    """A relay in this process, spoken to as if it were far away."""

    def __init__(self, relay: Relay) -> None:
        for name in ("take", "stop", "stopped"):
            setattr(self, name, SimpleNamespace(remote=getattr(relay, name)))


def test_a_callback_that_fails_ends_the_fit() -> None:
    relay, ended = Relay(), []

    class Trainer:
        def fit(self) -> None:
            for done in range(10_000):
                if relay.tell(ProgressEvent("epoch", done)) is not None:
                    ended.append(done)
                    raise RuntimeError("workers were told to stop")
                time.sleep(0.002)

    def failing(event: ProgressEvent) -> None:
        raise ZeroDivisionError

    run = _Run(SimpleNamespace(get=lambda value: value), Local(relay), failing, [])
    with pytest.raises(ZeroDivisionError):
        run.result_of(Trainer(), 3)
    assert ended and ended[0] < 10_000


def test_workers_that_keep_dying_are_an_error() -> None:
    class Trainer:
        def fit(self) -> None:
            error = RuntimeError("the group failed")
            error.worker_failures = {1: OSError("no memory")}  # type: ignore[attr-defined]
            raise error

    run = _Run(SimpleNamespace(get=lambda value: value), Local(Relay()), silent, [])
    with pytest.raises(TrainingError, match="started anew as often as allowed") as caught:
        run.result_of(Trainer(), 3)
    assert "no memory" in str(caught.value) and "3 retries" in str(caught.value)
