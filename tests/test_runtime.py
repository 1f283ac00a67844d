"""Threads: what the environment names counts for all parts alike, and stays through a fit."""

import json
import os
import subprocess
import sys

import pytest

from palate.runtime import wanted_threads

PROGRAM = """
import json, numba, torch
from palate.contracts.conformance_bench import small_world
from palate.recommend.lightgcn import LightGCN
from palate.runtime import threads
seen = lambda: [threads(), numba.get_num_threads(), torch.get_num_threads()]
first = seen()
model = LightGCN(epochs=1, dim=8).fit(small_world())
print(json.dumps([first, seen()]))
"""


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "3,2"}, 3),
        ({"OMP_NUM_THREADS": "3", "PALATE_THREADS": "2"}, 2),
        ({"PALATE_THREADS": "x"}, None),
    ],
)
def test_the_environment_names_threads(given, wanted, monkeypatch):
    for name in ("OMP_NUM_THREADS", "PALATE_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert wanted_threads() == wanted


@pytest.mark.parametrize("name", ["PALATE_THREADS", "OMP_NUM_THREADS"])
def test_one_thread_stays_one_through_a_fit(name):
    pytest.importorskip("torch")
    left = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS") and key != "PALATE_THREADS"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env={**left, name: "1"}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[1, 1, 1], [1, 1, 1]]
