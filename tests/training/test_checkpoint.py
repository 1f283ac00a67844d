"""Checkpoints: whole or not at all, of one fit only, optimisers of every kind."""

import json

import pytest
import torch

from palate.errors import TrainingError
from palate.nn.adam import Adam
from palate.training.checkpoint import Checkpoint, pack_optimizer, read_checkpoint, unpack_optimizer, write_checkpoint

IDENTITY = {"title": "x", "seed": 1}


def made(epoch):
    return Checkpoint(IDENTITY, {"epoch": epoch}, {"a": torch.full((3,), float(epoch)), "b": torch.tensor(2)})


def test_round_trip_and_only_the_last_is_kept(tmp_path):
    for epoch in (1, 2, 3):
        write_checkpoint(tmp_path / "c", made(epoch))
    found = read_checkpoint(tmp_path / "c", IDENTITY)
    assert found.facts == {"epoch": 3}
    assert torch.equal(found.arrays["a"], torch.full((3,), 3.0))
    assert sorted(p.name for p in (tmp_path / "c").iterdir()) == ["arrays-000003.safetensors", "checkpoint.json"]


def test_nothing_there_is_none(tmp_path):
    assert read_checkpoint(tmp_path / "no", IDENTITY) is None


def test_a_write_cut_short_leaves_the_old_one(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, made(1))

    def cut(*args, **keys):
        raise KeyboardInterrupt

    monkeypatch.setattr("palate.training.checkpoint.json.dumps", cut)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, made(2))
    monkeypatch.undo()
    assert read_checkpoint(tmp_path, IDENTITY).facts == {"epoch": 1}


def test_another_fit_is_refused_by_name(tmp_path):
    write_checkpoint(tmp_path, made(1))
    with pytest.raises(TrainingError, match="seed") as caught:
        read_checkpoint(tmp_path, {"title": "x", "seed": 2})
    assert "another folder" in str(caught.value)


@pytest.mark.parametrize("harm", ["truncate", "remove", "edit", "json", "schema"])
def test_damage_is_found(tmp_path, harm):
    write_checkpoint(tmp_path, made(1))
    arrays, note = tmp_path / "arrays-000001.safetensors", tmp_path / "checkpoint.json"
    if harm == "truncate":
        arrays.write_bytes(arrays.read_bytes()[:-3])
    elif harm == "remove":
        arrays.unlink()
    elif harm == "edit":
        data = bytearray(arrays.read_bytes())
        data[-1] ^= 1
        arrays.write_bytes(data)
    elif harm == "json":
        note.write_text("{")
    else:
        note.write_text(json.dumps({**json.loads(note.read_text()), "schema": 99}))
    with pytest.raises(TrainingError):
        read_checkpoint(tmp_path, IDENTITY)


@pytest.mark.parametrize(
    "kind", [torch.optim.AdamW, torch.optim.Adagrad, Adam, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)]
)
def test_optimizers_go_on_exactly(kind):
    def steps(weights, optimizer, numbers):
        for number in numbers:
            optimizer.zero_grad()
            (weights * torch.arange(4) + number).square().sum().backward()
            optimizer.step()

    whole = torch.nn.Parameter(torch.ones(4))
    first = kind([whole])
    steps(whole, first, range(3))
    arrays, facts = pack_optimizer(first)
    copy = torch.nn.Parameter(whole.detach().clone())
    second = kind([copy])
    unpack_optimizer(second, {k: v.clone() for k, v in arrays.items()}, json.loads(json.dumps(facts)))
    steps(whole, first, range(3, 6))
    steps(copy, second, range(3, 6))
    assert torch.equal(whole, copy)
