"""Checkpoints: everything that a fit needs to go on exactly, as safetensors and JSON, never pickled code.

``checkpoint.json`` names the file of arrays that belongs to it. The arrays are written first and the JSON is renamed into place
last, so a process killed at any moment leaves either the old checkpoint or the new one, whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from palate.data.fingerprint import file_sha256
from palate.errors import TrainingError

FILE = "checkpoint.json"
SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """A moment between two epochs.

    Attributes
    ----------
    identity
        What the fit is (title, seed, settings, shapes); a fit goes on only from its own checkpoint.
    facts
        Plain facts: epochs done, history, stopping state.
    arrays
        Named tensors.
    """

    identity: Mapping[str, Any]
    facts: Mapping[str, Any]
    arrays: Mapping[str, Tensor]


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint in place of the one before, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"arrays-{int(checkpoint.facts['epoch']):06d}.safetensors"
    part = folder / f".{name}.part"
    save_file({k: t.detach().cpu().clone().contiguous() for k, t in checkpoint.arrays.items()}, part)
    _flush(part)
    digest = file_sha256(part)
    part.replace(folder / name)
    table = {"schema": SCHEMA, "identity": checkpoint.identity, "facts": checkpoint.facts, "arrays": name, "sha256": digest}
    note = folder / f".{FILE}.part"
    note.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    _flush(note)
    note.replace(folder / FILE)
    for old in folder.glob("arrays-*.safetensors"):
        if old.name != name:
            old.unlink()


def read_checkpoint(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """Read the checkpoint of a fit, or return ``None`` where there is none yet.

    Raises
    ------
    TrainingError
        If the checkpoint is of another fit, damaged, or of an unknown schema.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        schema, found, facts = table["schema"], table["identity"], table["facts"]
        arrays, digest = folder / Path(table["arrays"]).name, table["sha256"]
    except (ValueError, KeyError, TypeError):
        raise _damaged(path) from None
    if schema != SCHEMA:
        raise TrainingError("the checkpoint has another schema.", where=path, value=schema, remedy="use an empty folder")
    wanted = json.loads(json.dumps(identity))
    if found != wanted:
        differ = sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k))
        raise TrainingError(
            f"the checkpoint is of another fit; {', '.join(differ)} differ.",
            where=path,
            value={k: (found.get(k), wanted.get(k)) for k in differ},
            remedy="use another folder, or the same data, seed and settings",
        )
    if not arrays.is_file() or file_sha256(arrays) != digest:
        raise _damaged(arrays)
    try:
        return Checkpoint(found, facts, load_file(arrays))
    except (OSError, SafetensorError):
        raise _damaged(arrays) from None


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimiser's state as named tensors and plain facts."""
    state = optimizer.state_dict()
    arrays: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for parameter, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                arrays[f"{parameter}/{key}"] = value
            else:
                plain.setdefault(str(parameter), {})[key] = value
    return arrays, {"plain": plain, "groups": state["param_groups"]}


def unpack_optimizer(optimizer: torch.optim.Optimizer, arrays: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Give an optimiser back what :func:`pack_optimizer` took."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in arrays.items():
        parameter, key = name.split("/", 1)
        state.setdefault(int(parameter), {})[key] = tensor
    for parameter, values in facts["plain"].items():
        state.setdefault(int(parameter), {}).update(values)
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in facts["groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _damaged(path: Path) -> TrainingError:
    return TrainingError(
        "the checkpoint is missing a part or was changed.", where=path, remedy="delete its folder and start again"
    )


def _flush(path: Path) -> None:
    with open(path, "rb") as written:
        os.fsync(written.fileno())
