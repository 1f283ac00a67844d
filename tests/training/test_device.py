"""Devices: those that are there, those that are not, and what can be multiplied in bfloat16."""

import contextlib

import pytest
import torch

from palate.data.dataset import Dataset
from palate.errors import ConfigError
from palate.recommend.lightgcn import LightGCN
from palate.recommend.sasrec import SASRec
from palate.training.device import precision_context, usable_device


def test_the_cpu_is_always_there():
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["nonsense", "cuda:99", "cpu cores"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(name):
    with pytest.raises(ConfigError, match="device") as caught:
        usable_device(name)
    assert caught.value.value == name and "cpu" in caught.value.remedy


@pytest.mark.parametrize("kind", [SASRec, LightGCN])
def test_models_refuse_such_a_device(kind):
    data = Dataset.from_columns([0, 0, 1, 1], [0, 1, 1, 2])
    with pytest.raises(ConfigError, match="device"):
        kind(epochs=1).fit(data, device="cuda:99")


def test_precision(monkeypatch):
    assert isinstance(precision_context(torch.device("cpu"), "float32"), contextlib.nullcontext)
    with precision_context(torch.device("cpu"), "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(ConfigError, match="bfloat16") as caught:
        precision_context(torch.device("cuda"), "bfloat16")
    assert "float32" in caught.value.remedy
