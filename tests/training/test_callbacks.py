"""Callbacks: what they are told, logs that are always whole, and that they reach a fit through the model."""

import json

import numpy as np
import pytest

from palate.contracts.model import Fitting
from palate.data.dataset import Dataset
from palate.recommend.bpr_mf import BPRMF
from palate.training.callbacks import EpochEvent, JsonLog, PrintLog

DATA = Dataset.from_columns(np.repeat(np.arange(12), 4), np.arange(48) % 9)


def event(epoch, **last):
    history = [{"epoch": n, "loss": 1 / n, "seconds": 0.5} for n in range(1, epoch)] + [
        {"epoch": epoch, "loss": 1 / epoch, "seconds": 0.5, **last}
    ]
    return EpochEvent("Net", epoch, history, best="value" in last)


def test_a_log_holds_every_epoch_also_those_before_a_resumption(tmp_path):
    path = tmp_path / "log.jsonl"
    JsonLog(path)(event(1))
    JsonLog(path)(event(3, value=0.25))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and lines[2]["value"] == 0.25
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_log_cut_short_leaves_the_old_one(tmp_path, monkeypatch):
    log = JsonLog(tmp_path / "log.jsonl")
    log(event(1))
    monkeypatch.setattr("pathlib.Path.replace", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        log(event(2))
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_lines_on_the_screen(capsys):
    PrintLog()(event(2, value=0.25))
    PrintLog()(event(3))
    assert capsys.readouterr().out.splitlines() == [
        "Net epoch 2: loss 0.50000  validation 0.2500 *  (0.5 s)",
        "Net epoch 3: loss 0.33333  (0.5 s)",
    ]


def test_a_model_passes_them_on(tmp_path):
    events, path = [], tmp_path / "log.jsonl"
    BPRMF(dim=4, epochs=3).fit(DATA, callbacks=[events.append, JsonLog(path)])
    assert [(e.title, e.epoch, len(e.history)) for e in events] == [("BPR-MF", n, n) for n in (1, 2, 3)]
    assert len(path.read_text().splitlines()) == 3


def test_an_exception_ends_the_fit_and_the_next_one_goes_on(tmp_path):
    def stop(event):
        if event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BPRMF(dim=4, epochs=5).fit(DATA, seed=1, checkpoint=tmp_path, callbacks=[stop])
    events = []
    resumed = BPRMF(dim=4, epochs=5).fit(DATA, seed=1, checkpoint=tmp_path, callbacks=[events.append])
    assert [e.epoch for e in events] == [3, 4, 5]
    whole = BPRMF(dim=4, epochs=5).fit(DATA, seed=1)
    np.testing.assert_array_equal(whole.item_vectors, resumed.item_vectors)
    assert Fitting().callbacks == ()
