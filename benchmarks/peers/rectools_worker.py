"""RecTools 0.19 SASRec (sampled softmax) on given sequences: train by epochs, rank the catalogue for the held-out items."""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve

warnings.filterwarnings("ignore")
STATE = {}


def load(data, settings, threads=2):
    """Read ``users``, ``items`` (in order of time) and one ``truth`` item a user from an npz file; make the model."""
    from pytorch_lightning import Trainer, seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    torch.set_num_threads(threads)
    seed_everything(0, verbose=False)
    arrays = np.load(data)
    frame = pd.DataFrame({Columns.User: arrays["users"], Columns.Item: arrays["items"], Columns.Weight: 1.0})
    frame[Columns.Datetime] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(frame)), unit="s")

    def trainer():
        return Trainer(
            max_epochs=1, min_epochs=1, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False,
            enable_model_summary=False, logger=False, deterministic=True,
        )  # fmt: skip

    STATE.update(
        dataset=Dataset.construct(frame),
        model=SASRecModel(**settings, get_trainer_func=trainer, recommend_torch_device="cpu"),
        users=arrays["asked"],
        truth=arrays["truth"],
    )
    return {"rows": len(frame)}


def epoch():
    """Train one epoch; return seconds (the first holds the preparation of the data too)."""
    started = time.perf_counter()
    STATE["model"].fit_partial(STATE["dataset"], min_epochs=1, max_epochs=1)
    return {"seconds": time.perf_counter() - started}


def evaluate(k=10):
    """Rank the catalogue without seen items; return seconds, NDCG and recall at ``k``."""
    started = time.perf_counter()
    found = STATE["model"].recommend(STATE["users"], STATE["dataset"], k=k, filter_viewed=True)
    seconds = time.perf_counter() - started
    truth = pd.Series(STATE["truth"], index=STATE["users"])
    rank = found["rank"][found["item_id"].to_numpy() == truth.loc[found["user_id"]].to_numpy()].to_numpy()
    n = len(STATE["users"])
    return {"seconds": seconds, "ndcg": float((1 / np.log2(1 + rank)).sum() / n), "recall": len(rank) / n}


if __name__ == "__main__":
    serve({"load": load, "epoch": epoch, "evaluate": evaluate})
