"""FuxiCTR 2.3.10 on encoded rows: an epoch, predictions of a part.

Its models come from its repository (commit 0245987), as its wheel lacks them; both run as released. Batches are put together
by its own loader before an epoch starts, and that time is told apart; where only answers count, the very same batches are cut
from arrays (``direct``), as its loader gathers them row by row.
"""

import copy
import importlib.util
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve

FILES = {
    "LR": "model_zoo/LR/src/LR.py",
    "FM": "model_zoo/FM/src/FM.py",
    "DNN": "model_zoo/DNN/DNN_torch/src/DNN.py",
    "DeepFM": "model_zoo/DeepFM/DeepFM_torch/src/DeepFM.py",
    "DCNv2": "model_zoo/DCNv2/src/DCNv2.py",
    "AutoInt": "model_zoo/AutoInt/src/AutoInt.py",
    "FinalMLP": "model_zoo/FinalMLP/src/FinalMLP.py",
    "FinalNet": "model_zoo/FinalNet/src/FinalNet.py",
    "DIN": "model_zoo/DIN/src/DIN.py",
    "DIEN": "model_zoo/DIEN/src/DIEN.py",
    "MMoE": "model_zoo/multitask/MMoE/src/MMoE.py",
    "PLE": "model_zoo/multitask/PLE/src/PLE.py",
}
PARTS = ("train", "valid", "test")
STATE = {}


def _class(source, model):
    spec = importlib.util.spec_from_file_location(f"zoo_{model}", Path(source) / FILES[model])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, model)


def data(folder, sequences=False):
    """Read ``folder/{train,valid,test}.npz`` (``codes``, ``labels``) and ``folder/sizes.json`` (codes of each field).

    With ``sequences`` those of ``folder/sequences.json`` are fields, too. Of several labels the first is ``label``.
    """
    sizes = json.loads((Path(folder) / "sizes.json").read_text())
    past = json.loads((Path(folder) / "sequences.json").read_text()) if sequences else {}
    home = Path(folder) / "fuxictr"
    (home / "checkpoints" / "rows").mkdir(parents=True, exist_ok=True)
    facts = {
        "dataset_id": "rows",
        "num_fields": len(sizes) + len(past),
        "total_features": sum(sizes.values()),
        "input_length": len(sizes) + sum(fact["length"] for fact in past.values()),
        "labels": ["label"],
        "features": [
            {name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}} for name, size in sizes.items()
        ],
    }
    for name, fact in past.items():
        own = {"source": "", "type": "sequence", "padding_idx": 0, "vocab_size": sizes[fact["of"]]}
        facts["features"].append({name: {**own, "share_embedding": fact["of"], "max_len": fact["length"]}})
    arrays = {}
    for part in PARTS:
        found = np.load(Path(folder) / f"{part}.npz")
        labels = found["labels"].reshape(len(found["codes"]), -1)
        facts["labels"] = ["label", *(f"label {at}" for at in range(2, labels.shape[1] + 1))]
        arrays[part] = {n: found["codes"][:, i] for i, n in enumerate(sizes)} | {name: found[name] for name in past}
        arrays[part] |= {name: labels[:, at] for at, name in enumerate(facts["labels"])}
        np.savez(home / f"{part}.npz", **arrays[part])
    (home / "feature_map.json").write_text(json.dumps(facts))
    STATE.update(home=home, arrays=arrays, labels=facts["labels"])


class Direct:
    """The batches that its loader gives, cut from arrays."""

    def __init__(self, arrays, batch_size, seed=None):
        self.tensors = {name: torch.from_numpy(np.asarray(array, np.float64)) for name, array in arrays.items()}
        self.n, self.size = len(next(iter(arrays.values()))), batch_size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self):
        return -(-self.n // self.size)

    def __iter__(self):
        order = torch.arange(self.n) if self.generator is None else torch.randperm(self.n, generator=self.generator)
        for rows in order.split(self.size):
            yield {name: tensor[rows] for name, tensor in self.tensors.items()}


def load(source, model, settings, batch_size, seed=0, threads=2, tasks=1, direct=False):
    """Make a model; of several tasks with all labels, else with the first."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import seed_everything

    torch.set_num_threads(threads)
    seed_everything(seed)
    home = STATE["home"]
    features = FeatureMap("rows", str(home))
    features.load(str(home / "feature_map.json"), {"embedding_dim": settings["embedding_dim"]})
    features.labels = STATE["labels"][:tasks]
    features.set_column_index()
    if direct:
        read = [*features.features, *features.labels]
        arrays = {part: {name: STATE["arrays"][part][name] for name in read} for part in PARTS}
        loaders = [Direct(arrays[part], batch_size, seed if part == "train" else None) for part in PARTS]
    else:
        paths = {f"{part}_data": str(home / f"{part}.npz") for part in PARTS}
        loaders = RankDataLoader(
            features, stage="both", **paths, batch_size=batch_size, shuffle=True, data_format="npz", num_workers=0
        )
    fixed = {
        "model_id": model,
        "model_root": str(home / "checkpoints"),
        "gpu": -1,
        "task": "binary_classification",
        "optimizer": "adam",
        "loss": "binary_cross_entropy",
        "metrics": ["AUC"],
        "verbose": 0,
    }
    made = _class(source, model)(features, **{**fixed, **settings})
    # what its ``fit`` sets before the first epoch; it looks at validation after ``_eval_steps`` batches: here never
    made._max_gradient_norm, made._total_steps, made._eval_steps, made._stop_training = 10.0, 0, 2**62, False
    STATE.update(model=made, best=None, **dict(zip(PARTS, loaders, strict=True)))
    return {"parameters": sum(p.numel() for p in made.parameters())}


def epoch():
    """Train one epoch; return its seconds, those of putting its batches together, and whether all weights are numbers."""
    started = time.perf_counter()
    batches = list(STATE["train"])
    made = time.perf_counter()
    try:
        STATE["model"].train_epoch(batches)
    except RuntimeError as error:
        # its loss refuses predictions that are not numbers
        if "between 0 and 1" not in str(error):
            raise
        return {"seconds": time.perf_counter() - made, "batches": made - started, "finite": False}
    done = time.perf_counter()
    finite = all(bool(torch.isfinite(p).all()) for p in STATE["model"].parameters())
    return {"seconds": done - made, "batches": made - started, "finite": finite}


def predict(part, path):
    """Write the predictions of a part; return the seconds, and those of putting its batches together."""
    started = time.perf_counter()
    batches = list(STATE[part])
    made = time.perf_counter()
    found = STATE["model"].predict(batches)
    done = time.perf_counter()
    np.save(
        path,
        np.stack([found[label] for label in STATE["model"].feature_map.labels], axis=1) if isinstance(found, dict) else found,
    )
    return {"seconds": done - made, "batches": made - started}


def keep():
    """Note the weights."""
    STATE["best"] = copy.deepcopy(STATE["model"].state_dict())


def back():
    """Take the weights back that were noted last."""
    STATE["model"].load_state_dict(STATE["best"])


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    serve({"data": data, "load": load, "epoch": epoch, "predict": predict, "keep": keep, "back": back})
