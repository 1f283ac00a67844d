"""A fit shared by two processes takes the steps of one that accumulates; they stop together, and one of them writes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from palate.contracts.model import Fitting
from palate.errors import TrainingError
from palate.training.config import TrainConfig
from palate.training.workers import Company, grouped

SCRIPT = Path(__file__).with_name("company.py")
SPEC = importlib.util.spec_from_file_location("company", SCRIPT)
company = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(company)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two workers found, and their folder."""
    folder = tmp_path_factory.mktemp("pair")
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([sys.executable, str(SCRIPT), str(folder), str(rank), "2"], env=alone) for rank in range(2)]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)], folder


@pytest.mark.parametrize(("name", "each"), [("one", 1), ("two", 2)])
def test_workers_take_the_steps_of_one_that_accumulates(pair, name, each):
    """Also where the last group is short, and where the workers began with other weights than the first."""
    (first, second), _ = pair
    alone = company.shared(2 * each, start=1)
    assert first[name]["weights"] == second[name]["weights"]
    assert first[name]["losses"] == second[name]["losses"]
    np.testing.assert_allclose(first[name]["losses"], alone["losses"], rtol=1e-5)
    np.testing.assert_allclose(first[name]["weights"], alone["weights"], rtol=1e-4, atol=1e-6)
    other = company.shared(each, start=1)
    assert not np.allclose(other["losses"][1:], alone["losses"][1:], rtol=1e-3)


def test_each_worker_draws_its_own_noise_and_the_first_that_of_one_process(pair):
    (first, second), _ = pair
    assert not set(first["noisy"]) & set(second["noisy"])
    assert set(first["noisy"]) <= set(company.noisy(0))
    assert len(set(first["noisy"])) == 2 * 5


def test_the_first_looks_and_reports_and_all_stop_together(pair):
    (first, second), _ = pair
    assert first["watched"]["notes"] == second["watched"]["notes"]
    assert (first["watched"]["notes"]["epochs"], first["watched"]["notes"]["best_epoch"]) == (4, 2)
    assert first["watched"]["weights"] == second["watched"]["weights"]
    assert (first["watched"]["looks"], second["watched"]["looks"]) == (4, 0)
    assert (first["watched"]["events"], second["watched"]["events"]) == (4, 0)


def test_what_is_not_a_number_on_one_worker_stops_all(pair):
    (first, second), _ = pair
    assert first["broken"] == second["broken"]
    for part in ("the loss is not a number", "epoch 1, batch 6", "nan"):
        assert part in first["broken"]
    assert "validation value" in first["blind"] and "validation value" in second["blind"]


def test_a_loss_without_gradient_is_refused_in_company(pair):
    (first, second), _ = pair
    assert "no gradient" in first["still"] and "no gradient" in second["still"]
    module = company.Net()
    company.fit(module, TrainConfig(epochs=1), lambda *_: torch.ones((), requires_grad=True))


def test_a_shared_fit_goes_on_to_the_bit_and_only_in_the_same_company(pair):
    (first, second), folder = pair
    for found in (first["resumed"], second["resumed"]):
        assert found["parts"]["weights"] == found["whole"]["weights"]
        assert found["parts"]["losses"] == found["whole"]["losses"]
    assert first["resumed"]["whole"]["weights"] == second["resumed"]["whole"]["weights"]
    with pytest.raises(TrainingError, match="workers differ"):
        company.fit(company.Net(), TrainConfig(epochs=6, lr=0.02), fitting=Fitting(seed=5, checkpoint=folder / "checkpoint"))


def test_workers_with_different_checkpoints_are_found(pair):
    (first, second), _ = pair
    assert "different checkpoints" in first["apart"] and first["apart"].splitlines()[0] == second["apart"].splitlines()[0]


def test_alone_there_is_no_company():
    here = Company.here(torch.device("cpu"))
    assert (here.rank, here.size, here.first) == (0, 1, True)
    assert here.summed([0.1, 0.2]) == [0.1, 0.2]
    assert here.told(lambda: 0.3) == 0.3
    assert here.agree(7)


def test_groups_hold_every_batch_once():
    assert list(grouped(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(grouped([], 3)) == []
