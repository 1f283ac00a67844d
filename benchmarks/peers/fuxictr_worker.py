"""FuxiCTR 2.3.10 on encoded rows: an epoch, predictions of a part.

Its models DeepFM, DCNv2 and AutoInt come from its repository (commit 0245987), as its wheel lacks them; both run as released.
Batches are put together by its own loader before an epoch starts, and that time is told apart.
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
    "DeepFM": "model_zoo/DeepFM/DeepFM_torch/src/DeepFM.py",
    "DCNv2": "model_zoo/DCNv2/src/DCNv2.py",
    "AutoInt": "model_zoo/AutoInt/src/AutoInt.py",
}
STATE = {}


def _class(source, model):
    spec = importlib.util.spec_from_file_location(f"zoo_{model}", Path(source) / FILES[model])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, model)


def data(folder):
    """Read ``folder/{train,valid,test}.npz`` (``codes``, ``labels``) and ``folder/sizes.json`` (codes of each field)."""
    sizes = json.loads((Path(folder) / "sizes.json").read_text())
    home = Path(folder) / "fuxictr"
    (home / "checkpoints" / "rows").mkdir(parents=True, exist_ok=True)
    facts = {
        "dataset_id": "rows",
        "num_fields": len(sizes),
        "total_features": sum(sizes.values()),
        "input_length": len(sizes),
        "labels": ["label"],
        "features": [
            {name: {"source": "", "type": "categorical", "padding_idx": 0, "vocab_size": size}} for name, size in sizes.items()
        ],
    }
    (home / "feature_map.json").write_text(json.dumps(facts))
    for part in ("train", "valid", "test"):
        found = np.load(Path(folder) / f"{part}.npz")
        np.savez(home / f"{part}.npz", label=found["labels"], **{n: found["codes"][:, i] for i, n in enumerate(sizes)})
    STATE.update(home=home)


def load(source, model, settings, batch_size, seed=0, threads=2):
    """Make a model."""
    from fuxictr.features import FeatureMap
    from fuxictr.pytorch.dataloaders import RankDataLoader
    from fuxictr.pytorch.torch_utils import seed_everything

    torch.set_num_threads(threads)
    seed_everything(seed)
    home = STATE["home"]
    features = FeatureMap("rows", str(home))
    features.load(str(home / "feature_map.json"), {"embedding_dim": settings["embedding_dim"]})
    paths = {f"{part}_data": str(home / f"{part}.npz") for part in ("train", "valid", "test")}
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
    STATE.update(model=made, best=None, **dict(zip(("train", "valid", "test"), loaders, strict=True)))
    STATE["ready"] = {}
    return {"parameters": sum(p.numel() for p in made.parameters())}


def epoch():
    """Train one epoch; return its seconds, and those of putting its batches together."""
    started = time.perf_counter()
    batches = list(STATE["train"])
    made = time.perf_counter()
    STATE["model"].train_epoch(batches)
    return {"seconds": time.perf_counter() - made, "batches": made - started}


def predict(part, path):
    """Write the predictions of a part; return the seconds, and those of putting its batches together."""
    started = time.perf_counter()
    batches = list(STATE[part])
    made = time.perf_counter()
    found = STATE["model"].predict(batches)
    done = time.perf_counter()
    np.save(path, found)
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
