"""DeepCTR-Torch 0.3.0 on encoded rows: an epoch, predictions of a part. Run as released.

Batches are put together by its own loader (that of PyTorch) before an epoch starts, and that time is told apart.
"""

import copy
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve

STATE = {"making": 0.0}


def _ready():
    """Let its loader give all batches at once, and note how long that takes."""
    from deepctr_torch.models import basemodel

    class Ready(torch.utils.data.DataLoader):
        def __iter__(self):
            started = time.perf_counter()
            batches = list(super().__iter__())
            STATE["making"] += time.perf_counter() - started
            return iter(batches)

    basemodel.DataLoader = Ready


def data(folder):
    """Read ``folder/{train,valid,test}.npz`` (``codes``, ``labels``) and ``folder/sizes.json`` (codes of each field)."""
    sizes = json.loads((Path(folder) / "sizes.json").read_text())
    STATE["sizes"] = sizes
    for part in ("train", "valid", "test"):
        found = np.load(Path(folder) / f"{part}.npz")
        STATE[part] = {name: found["codes"][:, at].astype(np.int64) for at, name in enumerate(sizes)}
        STATE[f"{part} labels"] = found["labels"]


def load(model, settings, dim, lr, batch_size, seed=0, threads=2):
    """Make a model."""
    from deepctr_torch import models
    from deepctr_torch.inputs import SparseFeat

    torch.set_num_threads(threads)
    _ready()
    columns = [SparseFeat(name, vocabulary_size=size, embedding_dim=dim) for name, size in STATE["sizes"].items()]
    made = getattr(models, model)(columns, columns, task="binary", device="cpu", seed=1024 + seed, **settings)
    made.compile(torch.optim.Adam(made.parameters(), lr=lr), "binary_crossentropy")
    STATE.update(model=made, size=batch_size, best=None)
    return {"parameters": sum(p.numel() for p in made.parameters())}


def epoch():
    """Train one epoch; return its seconds, and those of putting its batches together."""
    STATE["making"], started = 0.0, time.perf_counter()
    STATE["model"].fit(dict(STATE["train"]), STATE["train labels"], batch_size=STATE["size"], epochs=1, verbose=0)
    passed = time.perf_counter() - started
    return {"seconds": passed - STATE["making"], "batches": STATE["making"]}


def predict(part, path):
    """Write the predictions of a part; return the seconds, and those of putting its batches together."""
    STATE["making"], started = 0.0, time.perf_counter()
    found = STATE["model"].predict(dict(STATE[part]), STATE["size"])
    passed = time.perf_counter() - started
    np.save(path, found.reshape(-1))
    return {"seconds": passed - STATE["making"], "batches": STATE["making"]}


def keep():
    """Note the weights."""
    STATE["best"] = copy.deepcopy(STATE["model"].state_dict())


def back():
    """Take the weights back that were noted last."""
    STATE["model"].load_state_dict(STATE["best"])


if __name__ == "__main__":
    serve({"data": data, "load": load, "epoch": epoch, "predict": predict, "keep": keep, "back": back})
