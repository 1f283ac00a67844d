"""The service that starts with nothing else: MovieLens 100K in the store, and a model fitted on it."""

from __future__ import annotations

from pathlib import Path

from palate.data import public
from palate.progress import Progress, silent
from palate.serve.models.retrain import retrain
from palate.serve.store import Store
from palate.serve.store.exchange import load_dataset

#: What the demo serves: accurate on this data, explains exactly, and takes new events in at once.
DEMO_DATA, DEMO_SYSTEM = "ml-100k", "ease"


def fill(store: Store, models: Path, *, progress: Progress = silent) -> str:
    """Fill an empty store with the demo's data, fit and activate its model; return the version."""
    if not store.position():
        public.get(DEMO_DATA, progress=progress)
        load_dataset(store, public.load(DEMO_DATA), progress=progress)
    return retrain(store, models, DEMO_SYSTEM, activate=True, progress=progress).version
