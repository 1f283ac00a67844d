"""Devices: where a torch model trains, and what it can multiply in."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from palate.errors import ConfigError


def usable_device(name: str) -> torch.device:
    """Return the device of a name such as ``"cpu"`` or ``"cuda:1"``.

    Raises
    ------
    ConfigError
        If there is none of that name here; it lists those that there are.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        found = [f"cuda:{n}" for n in range(torch.cuda.device_count())]
        found += ["mps"] if torch.backends.mps.is_available() else []
        raise ConfigError(
            "this device can't be used here.", where="device", value=name, remedy=f"choose one of: {', '.join(['cpu', *found])}"
        ) from None
    return device


def precision_context(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a network's products are taken: as they are, or in bfloat16.

    Raises
    ------
    ConfigError
        If the device has no bfloat16.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("this device has no bfloat16.", where="precision", value=str(device), remedy="set precision=float32")
    return torch.autocast(device.type, dtype=torch.bfloat16)
