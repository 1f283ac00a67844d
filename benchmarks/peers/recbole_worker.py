"""RecBole 1.2.1 on given parts of a data set: an epoch, a full-ranking evaluation of the validation part.

Run as released but for one line: torch.load needs ``weights_only=False``.
"""

import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve

_load = torch.load
torch.load = lambda *a, **k: _load(*a, **{**k, "weights_only": False})

STATE = {}


def load(folder, name, model, settings, threads=2):
    """Prepare a model on ``folder/name/name.{train,valid,test}.inter``."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    torch.set_num_threads(threads)
    sys.argv = sys.argv[:1]
    fixed = {
        "data_path": folder,
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "use_gpu": False,
        "show_progress": False,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"},
        "metrics": ["NDCG", "Recall"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "seed": 0,
        "reproducibility": True,
        "checkpoint_dir": folder,
    }
    config = Config(model=model, dataset=name, config_dict={**fixed, **settings})
    init_seed(0, True)
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    network = get_model(config["model"])(config, train._dataset).to("cpu")
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, network)
    STATE.update(train=train, valid=valid, test=test, trainer=trainer, epoch=0)
    return {"users": dataset.user_num - 1, "items": dataset.item_num - 1, "batches": len(train)}


def epoch():
    """Train one epoch; return seconds and loss."""
    started = time.perf_counter()
    loss = STATE["trainer"]._train_epoch(STATE["train"], STATE["epoch"], show_progress=False)
    STATE["epoch"] += 1
    return {"seconds": time.perf_counter() - started, "loss": float(loss if not isinstance(loss, tuple) else sum(loss))}


def evaluate(part="valid"):
    """Rank the whole catalogue for every user of a part; return seconds and metrics."""
    started = time.perf_counter()
    values = STATE["trainer"].evaluate(STATE[part], load_best_model=False, show_progress=False)
    return {"seconds": time.perf_counter() - started, **{k: float(v) for k, v in values.items()}}


if __name__ == "__main__":
    serve({"load": load, "epoch": epoch, "evaluate": evaluate})
