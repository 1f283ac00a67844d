"""RecBole-GNN (commit 632ef88, on RecBole 1.2.1) on given parts of a data set: seconds of epochs and batches, evaluations.

Run as released but for torch_sparse, which it imports and for which there is no wheel. A module of that name stands in: with
nothing in it (``adjacency="links"``; the models then run over a list of links, as by default), or with torch's own CSR product
in place of its ``SparseTensor`` and ``matmul`` (``adjacency="csr"``; the models then run with ``enable_sparse``).
"""

import contextlib
import sys
import time
import types
from pathlib import Path

import torch
import torch_geometric.nn.conv.gcn_conv as norms

sys.path.insert(0, str(Path(__file__).parent))
import recbole_worker
from _serve import serve

STATE = recbole_worker.STATE


class SparseTensor:
    """As much of torch_sparse's matrix as RecBole-GNN asks for."""

    def __init__(self, row, col, value, sparse_sizes):
        self.turned = torch.sparse_coo_tensor(torch.stack([col, row]), value, sparse_sizes[::-1]).to_sparse_csr()

    def t(self):
        """Return the transpose, as torch's CSR matrix."""
        return self.turned


class Enough(Exception):
    """Ends an epoch of which some batches were to be timed."""


class Few:
    """Training data that end after some batches, with the seconds of each but the first."""

    def __init__(self, whole, n):
        self.whole, self.n, self.seconds, self.begun = whole, n, [], None

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def __iter__(self):
        source = iter(self.whole)
        self.begun = started = time.perf_counter()
        for at, batch in enumerate(source):
            yield batch
            now = time.perf_counter()
            if at:
                self.seconds.append(now - started)
            if len(self.seconds) == self.n:
                raise Enough
            started = now


def load(source, adjacency, settings, **rest):
    """Prepare a model, as ``load`` of RecBole's worker does, from RecBole-GNN's folder."""
    found = types.ModuleType("torch_sparse")
    found.matmul = None
    if adjacency == "csr":
        plain = norms.gcn_norm
        norms.gcn_norm = lambda edges, *a, **k: plain(edges, *a, **k)[slice(2) if edges.layout == torch.strided else 0]
        found.SparseTensor, found.matmul = SparseTensor, lambda matrix, x, reduce: matrix @ x
    sys.modules["torch_sparse"] = found
    sys.path.insert(0, source)
    import recbole.config
    import recbole.data
    import recbole.utils
    from recbole_gnn import config, utils

    recbole.config.Config = config.Config
    recbole.data.create_dataset, recbole.data.data_preparation = utils.create_dataset, utils.data_preparation
    recbole.utils.get_model, recbole.utils.get_trainer = utils.get_model, utils.get_trainer
    return recbole_worker.load(settings={**settings, "enable_sparse": adjacency == "csr"}, **rest)


def batches(n):
    """Return the seconds of each of ``n`` batches, with their share of what an epoch begins with, and how many an epoch has."""
    data, started = Few(STATE["train"], n), time.perf_counter()
    with contextlib.suppress(Enough):
        STATE["trainer"]._train_epoch(data, 0, show_progress=False)
    share = (data.begun - started) / len(data.whole)
    return {"seconds": [each + share for each in data.seconds], "of": len(data.whole)}


if __name__ == "__main__":
    serve({"load": load, "batches": batches, "epoch": recbole_worker.epoch, "evaluate": recbole_worker.evaluate})
