"""LightGCN, SGL, SimGCL and XSimGCL beside RecBole-GNN (commit 632ef88): dims, layers, weights and batch the same.

RecBole-GNN runs without torch_sparse, for which there is no wheel, and may be slower than with it. So it is timed twice: over a
list of links, as it runs by default ("links"), and with a stand-in for torch_sparse that is torch's own CSR product ("csr"),
whose losses are the same. "times faster" is against the faster of the two. Palate is timed before, between and after, and its
slowest counts.

An epoch on MovieLens 100K is the median of whole epochs; on Gowalla it is the median batch times the batches of an epoch, where
what an epoch begins with (shuffling, SGL's two graphs) is shared over its batches. Negatives are drawn on both sides. The time
to RecBole-GNN's best validation Recall@20 on MovieLens 100K (with "csr") counts the evaluations of both sides; it has the
settings that its results page gives for MovieLens 1M, Palate's settings and batches are free, and chosen on that part.

    python benchmarks/graph_vs_recbole_gnn.py                   all
    python benchmarks/graph_vs_recbole_gnn.py sgl --part small  one system, one part (other rows stay as they are)
    python benchmarks/graph_vs_recbole_gnn.py --quick           does it run? (a few epochs and batches; nothing is recorded)
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _curve import Curve
from _graph_sides import BATCHES, batch_seconds, compared, course, known, ordered, source
from _peers import Worker
from _recbole import SETTINGS, write_parts
from _record import RESULTS, record

import palate
from palate.data import public
from palate.data.split import HeldOut, Split
from palate.runtime import threads

NAME = "graph_vs_recbole_gnn"
SOURCE, COMMIT = "https://github.com/RUCAIBox/RecBole-GNN", "632ef88"
#: How RecBole-GNN holds its graph.
ADJACENCY = ("links", "csr")
#: Parts, and how the rows of each begin.
PARTS = {"small": "an epoch on ml-100k", "large": "an epoch on gowalla", "course": "to validation"}
#: Settings of both sides: RecBole-GNN's best on MovieLens 1M, in Palate's words.
SHARED = {"dim": 64, "lr": 2e-3, "reg": 1e-4, "batch_size": 2048, "patience": 0}
SAME: dict[str, dict[str, Any]] = {
    "lightgcn": {"layers": 3},
    "sgl": {"layers": 3, "cl_weight": 0.005, "temperature": 0.5, "drop": "edges", "drop_rate": 0.1, "against": "all"},
    # λ is 1e-5 there: it sums the contrast over the batch's people (items), of which Palate takes the mean.
    "simgcl": {"layers": 2, "cl_weight": 0.01, "eps": 0.1, "temperature": 0.05},
    "xsimgcl": {"layers": 2, "cl_weight": 0.1, "eps": 0.2, "temperature": 0.2, "contrast_layer": 1},
}
#: In its own words. Without require_pow SimGCL's penalty would be on lengths, not their squares; SGL's is, and has no other.
PEER: dict[str, tuple[str, dict[str, Any]]] = {
    "lightgcn": ("LightGCN", {"n_layers": 3, "require_pow": True}),
    "sgl": ("SGL", {"n_layers": 3, "ssl_weight": 0.005, "ssl_tau": 0.5, "type": "ED", "drop_ratio": 0.1}),
    "simgcl": ("SimGCL", {"n_layers": 2, "lambda": 1e-5, "eps": 0.1, "temperature": 0.05, "require_pow": True}),
    "xsimgcl": ("XSimGCL", {"n_layers": 2, "lambda": 0.1, "eps": 0.2, "temperature": 0.2, "layer_cl": 1, "require_pow": True}),
}
PEER_SHARED = {
    **SETTINGS,
    **{"learning_rate": 2e-3, "reg_weight": 1e-4, "eval_batch_size": 4_096_000, "topk": [20], "valid_metric": "Recall@20"},
}
#: Palate's own settings for the time to a value.
WIDE = {"batch_size": 8192, "lr": 0.02, "cl_weight": 0.05, "contrast_size": 256, "epochs": 60}
FREE: dict[str, dict[str, Any]] = {
    "lightgcn": {"batch_size": 8192, "lr": 0.02, "layers": 2, "reg": 1e-3, "epochs": 60},
    "sgl": {**WIDE, "layers": 2, "cl_weight": 0.005, "reg": 1e-3, "against": "batch"},
    "simgcl": {**WIDE, "temperature": 0.2, "reg": 1e-3},
    "xsimgcl": WIDE,
}


@dataclass(frozen=True)
class Size:
    """How much is run: whole epochs and batches that are timed, and the peer's epochs on its way to a value."""

    epochs: int
    batches: int
    course: int


FULL, QUICK = Size(5, BATCHES, 100), Size(2, 2, 3)


@dataclass(frozen=True)
class Side:
    """A data set, as RecBole's files in a folder too."""

    name: str
    split: Split
    folder: Path

    @classmethod
    def of(cls, name: str, folder: Path) -> Side:
        """Read a set, and write the files."""
        if name == "ml-100k":
            split = palate.split(public.load(name), "user_ratio", order="random", seed=0)
        else:
            split = public.load_split(name)
            split = replace(split, valid=split.test_part)  # RecBole asks for three parts; nothing is evaluated there
        write_parts(split, folder, f"own-{name}")
        return cls(name, split, folder)

    def peer(self, name: str, adjacency: str) -> Worker:
        """Start RecBole-GNN with a model."""
        model, own = PEER[name]
        worker = Worker("recbole_gnn", "recbole_gnn_worker.py", {"OMP_WAIT_POLICY": "passive"})
        worker(
            "load",
            source=str(source("recbole-gnn", SOURCE, COMMIT, ["recbole_gnn"])),
            adjacency=adjacency,
            folder=str(self.folder),
            name=f"own-{self.name}",  # RecBole reads "ml-100k" from a folder of its own
            model=model,
            threads=threads(),
            settings={**PEER_SHARED, **own},
        )
        return worker


def own_epochs(name: str, split: Split, epochs: int) -> list[float]:
    """Return the seconds of whole epochs of Palate."""
    curve = Curve()
    palate.create(name, **{**SHARED, **SAME[name], "epochs": epochs}).fit(split.train, seed=0, progress=curve)
    return np.diff([0.0, *curve.ends]).tolist()


def small_row(name: str, side: Side, size: Size) -> dict[str, Any]:
    """Compare whole epochs."""
    own_epochs(name, side.split, 1)  # warms up
    _, of = batch_seconds(name, {**SHARED, **SAME[name]}, side.split, 1)

    def theirs(peer: Worker) -> list[float]:
        return [peer("epoch")["seconds"] for _ in range(size.epochs)]

    return {
        "what": f"{name}: an epoch on {side.name} ({of} batches of 2,048, 64 dims, {SAME[name]['layers']} layers)",
        **alternated(name, side, lambda: own_epochs(name, side.split, size.epochs), theirs),
    }


def large_row(name: str, side: Side, size: Size) -> dict[str, Any]:
    """Compare batches."""
    of: set[int] = set()

    def noted(seconds: Sequence[float], batches: int) -> Sequence[float]:
        of.add(batches)
        return np.multiply(seconds, batches).tolist()

    found = alternated(
        name,
        side,
        lambda: noted(*batch_seconds(name, {**SHARED, **SAME[name]}, side.split, size.batches)),
        lambda peer: noted(*(peer("batches", n=size.batches)[key] for key in ("seconds", "of"))),
    )
    (batches,) = of
    what = f"{name}: an epoch on {side.name} ({batches} batches of 2,048, 64 dims, {SAME[name]['layers']} layers)"
    return {"what": what, **found, "palate s/batch": round(found["palate s"] / batches, 4)}


def alternated(
    name: str, side: Side, own: Callable[[], Sequence[float]], theirs: Callable[[Worker], Sequence[float]]
) -> dict[str, Any]:
    """Time Palate, the peer in one way, Palate, the peer in the other way, Palate; return the columns of medians."""
    mine, found = [np.median(own())], {}
    for adjacency in ADJACENCY:
        peer = side.peer(name, adjacency)
        found[adjacency] = float(np.median(theirs(peer)))
        peer.close()
        mine.append(np.median(own()))
    slowest = float(max(mine))
    return {
        "palate s": round(slowest, 3),
        **{f"recbole-gnn {adjacency} s": round(seconds, 3) for adjacency, seconds in found.items()},
        "times faster": round(min(found.values()) / slowest, 1),
        "times faster than its default": round(found["links"] / slowest, 1),
    }


def own_course(name: str, split: Split, held_out: HeldOut) -> list[tuple[float, float]]:
    """Fit with Palate's own settings; return seconds and the metric after each epoch."""
    return course(name, {**SHARED, **SAME[name], **FREE[name]}, split, held_out)


def peer_course(name: str, side: Side, epochs: int) -> list[tuple[float, float]]:
    """Train the peer; return seconds, its evaluations included, and the metric after each epoch."""
    peer, points, passed = side.peer(name, "csr"), [], 0.0
    for _ in range(epochs):
        seconds, judged = peer("epoch")["seconds"], peer("evaluate")
        passed += seconds + judged["seconds"]
        points.append((passed, judged["recall@20"]))
    peer.close()
    return points


def course_row(name: str, side: Side, size: Size) -> dict[str, Any]:
    """Compare the time to the peer's best validation value."""
    held_out = side.split.held_out("valid")
    palate.create(name, **{**SHARED, "epochs": 1}).fit(side.split.train, held_out)  # warms up
    courses = [own_course(name, side.split, held_out)]
    points = peer_course(name, side, size.course)
    courses.append(own_course(name, side.split, held_out))
    what = f"{name}: to validation Recall@20 {{:.4f}} on {side.name}, RecBole-GNN's best of {size.course} epochs"
    return compared(what, "recbole-gnn", courses, points, FREE[name], form=" csr")


def save(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the table, in the order of systems and parts."""
    record(
        NAME,
        ordered(rows, list(SAME), list(PARTS.values())),
        what=__doc__.split("\n\n    ")[0],
        peers={"RecBole-GNN": f"{COMMIT} on recbole 1.2.1, torch_geometric 2.8.1, no torch_sparse", "torch": "2.13.0"},
        seeds=[0],
        notes={"goal": "an epoch at least 3 times faster; time to the same value at least 10 times shorter"},
    )


def main() -> None:
    """Run and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(SAME), help="systems (default: all)")
    parser.add_argument("--part", choices=list(PARTS), help="one part of it")
    parser.add_argument("--quick", action="store_true", help="a few epochs and batches; nothing is recorded")
    given = parser.parse_args()
    size, parts = QUICK if given.quick else FULL, [given.part] if given.part else list(PARTS)
    rows = known(RESULTS / f"{NAME}.json")
    with tempfile.TemporaryDirectory() as folder:
        of = {part: "gowalla" if part == "large" else "ml-100k" for part in parts}
        sides = {name: Side.of(name, Path(folder)) for name in dict.fromkeys(of.values())}
        for name in given.names:
            for part in parts:
                row = {"small": small_row, "large": large_row, "course": course_row}[part](name, sides[of[part]], size)
                print(row, flush=True)
                rows.append(row)
            if not given.quick:
                save(rows)


if __name__ == "__main__":
    main()
