"""What the benchmarks beside RecBole share: the same split on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _peers import Worker

from palate.data.interactions import Interactions
from palate.data.split import Split

SETTINGS = {"train_batch_size": 2048, "embedding_size": 64, "learning_rate": 0.001}


def write_parts(split: Split, folder: Path, name: str) -> None:
    """Write train, validation and test as RecBole's benchmark files."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    parts = {"train": split.train.interactions, "valid": split.valid, "test": split.test_part}
    for part, events in parts.items():
        assert events is not None
        _write(folder / name / f"{name}.{part}.inter", split, events)


def _write(path: Path, split: Split, events: Interactions) -> None:
    users = split.train.users.ids.decode(events.user).to_pylist()
    items = split.train.items.ids.decode(events.item).to_pylist()
    times = [0] * len(events) if events.time is None else events.time.tolist()
    with path.open("w", encoding="utf-8") as out:
        out.write("user_id:token\titem_id:token\ttimestamp:float\n")
        out.writelines(f"{u}\t{i}\t{t}\n" for u, i, t in zip(users, items, times, strict=True))


def recbole(folder: Path, name: str, model: str, **settings: Any) -> Worker:
    """Start RecBole with a model on parts written by :func:`write_parts`."""
    worker = Worker("recbole", "recbole_worker.py", {"OMP_WAIT_POLICY": "passive"})
    worker("load", folder=str(folder), name=name, model=model, settings={**SETTINGS, **settings})
    return worker
