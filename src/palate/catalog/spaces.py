"""Search spaces: which settings of a system are worth trying, and over which range, as plain data.

The defaults are always tried first, so tuning never ends below them on validation. Every name here is a setting of the
system's own class; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Range:
    """Values of one setting.

    Attributes
    ----------
    low, high
        Ends, both included; two integers make a range of integers.
    log
        Whether to search on a logarithmic scale.
    choices
        The values to choose from, instead of ends.
    """

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the values are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Any) -> bool:
        """Say whether a value lies in the range."""
        if self.choices:
            return value in self.choices
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        return numeric and self.low is not None and self.high is not None and self.low <= value <= self.high


def _choose(*values: Any) -> Range:
    return Range(choices=values)


def _log(low: float, high: float) -> Range:
    return Range(low, high, log=True)


#: What rankers that are networks of fields share.
_NETWORK = {"lr": _log(5e-4, 1e-2), "embedding_reg": _log(1e-6, 0.1), "dropout": Range(0.0, 0.5)}

#: Settings to search, by system.
SPACES: MappingProxyType[str, dict[str, Range]] = MappingProxyType(
    {
        "popularity": {"half_life_days": _log(1.0, 1000.0)},
        "ease": {"reg": _log(1.0, 10_000.0)},
        "item_knn": {
            "k": Range(20, 500, log=True),
            "shrink": _log(0.1, 500.0),
            "weights": _choose("none", "tfidf", "bm25"),
            "similarity": _choose("cosine", "jaccard"),
        },
        "user_knn": {"k": Range(20, 500, log=True), "shrink": _log(0.1, 500.0), "weights": _choose("none", "tfidf")},
        "slim": {"l1": _log(0.01, 20.0), "l2": _log(1.0, 1000.0)},
        "ials": {
            "dim": _choose(64, 128, 256),
            "reg": _log(1e-4, 0.1),
            "alpha0": _log(0.003, 1.0),
            "epochs": _choose(8, 16),
        },
        "bpr_mf": {"lr": _log(5e-3, 0.1), "reg": _log(1e-4, 0.1), "dim": _choose(32, 64, 128)},
        "lightgcn": {
            "lr": _log(1e-3, 5e-2),
            "schedule": _choose("constant", "cosine"),
            "reg": _log(1e-6, 1e-2),
            "dim": _choose(64, 128),
            "layers": Range(1, 4),
            "loss": _choose("bpr", "softmax"),
        },
        "sgl": {
            "lr": _log(1e-3, 5e-2),
            "schedule": _choose("constant", "cosine"),
            "drop_rate": Range(0.05, 0.5),
            "cl_weight": _log(0.01, 1.0),
            "temperature": _log(0.1, 0.5),
            "layers": Range(1, 3),
        },
        "rlmrec": {
            "lr": _log(1e-3, 2e-2),
            "reg": _log(1e-6, 1e-3),
            "weight": _log(3e-3, 0.5),
            "temperature": _log(0.1, 0.5),
            "layers": Range(1, 3),
        },
        "simgcl": {
            "lr": _log(1e-3, 5e-2),
            "schedule": _choose("constant", "cosine"),
            "eps": _log(0.03, 0.5),
            "cl_weight": _log(1e-3, 2.0),
            "temperature": _log(0.1, 0.5),
            "layers": Range(1, 3),
        },
        "xsimgcl": {
            "lr": _log(1e-3, 5e-2),
            "schedule": _choose("constant", "cosine"),
            "eps": _log(0.03, 0.5),
            "cl_weight": _log(1e-3, 1.0),
            "temperature": _log(0.1, 0.5),
            "layers": Range(1, 3),
        },
        "mhcn": {
            "lr": _log(1e-3, 2e-2),
            "reg": _log(1e-6, 1e-2),
            "layers": Range(1, 3),
            "ssl": _log(1e-4, 0.1),
            "min_common": Range(2, 10),
        },
        "sept": {
            "lr": _log(1e-3, 2e-2),
            "reg": _log(1e-6, 1e-2),
            "layers": Range(1, 3),
            "ssl": _log(1e-3, 0.1),
            "temperature": _log(0.05, 0.5),
            "k": Range(2, 20),
        },
        "graphrec": {"lr": _log(5e-4, 1e-2), "reg": _log(1e-6, 1e-2), "decoder": _choose("mlp", "dot")},
        "diffnetpp": {"lr": _log(1e-3, 2e-2), "reg": _log(1e-6, 1e-2), "layers": Range(1, 3)},
        "dsl": {
            "lr": _log(1e-3, 2e-2),
            "reg": _log(1e-6, 1e-2),
            "layers": Range(1, 3),
            "social_layers": Range(1, 3),
            "social": _log(0.01, 1.0),
            "align": _log(1e-3, 0.1),
        },
        "social_rec": {
            "lr": _log(1e-3, 2e-2),
            "reg": _log(1e-6, 1e-2),
            "layers": Range(1, 4),
            "tie": _log(0.05, 1.0),
        },
        "graphsage": {
            "lr": _log(1e-3, 2e-2),
            "temperature": _log(0.05, 0.4),
            "reg": _log(1e-6, 1e-2),
            "layers": Range(1, 3),
            "fanout": _choose(5, 10, 20),
        },
        "rgcn": {"lr": _log(1e-3, 2e-2), "reg": _log(1e-6, 1e-2), "bases": _choose(2, 4, 8), "layers": Range(1, 3)},
        "diffkg": {
            "lr": _log(5e-4, 5e-3),
            "cl_weight": _log(0.01, 1.0),
            "temperature": _log(0.1, 1.0),
            "guidance": Range(0.01, 0.5),
            "keep": Range(0.1, 1.0),
        },
        "llmrec": {
            "lr": _log(5e-4, 1e-2),
            "share": _log(0.003, 0.3),
            "prune": Range(0.0, 0.4),
            "profile_weight": _log(0.03, 3.0),
            "attribute_weight": _log(0.005, 0.5),
            "text_weight": _log(0.01, 1.0),
        },
        "kgat": {
            "lr": _log(5e-4, 5e-3),
            "reg": _log(1e-6, 1e-3),
            "dropout": Range(0.0, 0.3),
            "start": _choose("random", "bpr_mf"),
        },
        "two_tower": {
            "lr": _log(5e-4, 1e-2),
            "temperature": _log(0.03, 0.2),
            "dim": _choose(64, 128),
            "hidden": _choose((), (128,), (256, 128)),
            "logq": _choose("counts", "none"),
        },
        "item_hgnn": {
            "graph_lr": _log(3e-4, 1e-2),
            "margin": Range(0.1, 0.6),
            "min_lift": _log(0.5, 4.0),
            "fanout": _choose(5, 10, 20),
            "alone": Range(0.0, 0.5),
        },
        "two_tower_hgnn": {
            "lr": _log(5e-4, 1e-2),
            "temperature": _log(0.03, 0.2),
            "use_ids": _choose(False, True),
            "graph_lr": _log(3e-4, 1e-2),
            "min_lift": _log(0.5, 4.0),
        },
        "ssl_two_tower": {
            "lr": _log(5e-4, 1e-2),
            "temperature": _log(0.03, 0.2),
            "alpha": _log(0.01, 3.0),
            "ssl_temperature": _log(0.05, 0.5),
            "view_dropout": Range(0.0, 0.5),
        },
        "mercatran": {
            "lr": _log(3e-4, 5e-3),
            "dropout": Range(0.0, 0.4),
            "hidden": _choose(128, 256, 1024),
            "blocks": Range(1, 3),
            "temperature": _choose(2.0, 4.0, 8.0),
            "tokens": _choose("bpe", "words"),
        },
        "easyrec": {
            "lr": _log(3e-4, 1e-2),
            "temperature": _log(0.03, 0.2),
            "versions": _choose(1, 2, 4),
            "subwords": _choose(0.0, 0.5),
            "hidden": _choose((), (128,)),
        },
        "cascading_rl": {"scale": _log(0.003, 1.0)},
        "uditsr": {
            "lr": _log(3e-4, 1e-2),
            "dim": _choose(32, 64, 128),
            "layers": Range(1, 3),
            "sg_weight": _log(0.1, 10.0),
            "cl_weight": _log(0.02, 2.0),
        },
        "gf_cf": {"dim": _choose(0, 64, 128, 256, 512), "alpha": _log(0.03, 3.0)},
        "ultragcn": {
            "lr": _log(5e-4, 1e-2),
            "reg": _log(1e-8, 1e-5),
            "negative_weight": _log(3.0, 500.0),
            "item_weight": _log(1e-5, 5.0),
            "dim": _choose(64, 128),
        },
        "mult_vae": {
            "lr": _log(3e-4, 3e-3),
            "beta": Range(0.0, 1.0),
            "dropout": Range(0.2, 0.8),
            "batch_size": _choose(100, 250, 500),
            "dim": _choose(64, 128, 200),
        },
        "cml": {
            "lr": _log(5e-4, 1e-2),
            "margin": Range(0.3, 2.0),
            "n_negatives": _choose(10, 20, 50),
            "covariance": _log(0.01, 100.0),
            "dim": _choose(64, 100),
        },
        "cml_theatrical": {
            "lr": _log(1e-3, 1e-2),
            "margin": Range(0.2, 2.0),
            "feature_weight": _log(0.01, 10.0),
            "places": _choose("hybrid", "text"),
            "loss": _choose("hinge", "logistic"),
            "history": _choose("before", "others"),
        },
        "pld": {
            "backbone": _choose("mf", "lightgcn"),
            "tau": _log(0.05, 2.0),
            "pool": Range(2, 10),
            "lr": _log(1e-3, 2e-2),
            "reg": _log(1e-5, 0.1),
        },
        "rel_mf": {"clip": _log(0.01, 1.0), "reg": _log(1e-3, 0.1), "lr": _log(5e-3, 0.05), "dim": _choose(16, 32, 64)},
        "rel_svd": {"clip": _log(0.01, 1.0), "reg": _log(0.1, 100.0), "dim": _choose(32, 64, 128)},
        "expo_mf": {
            "reg": _log(0.01, 3.0),
            "precision_y": _log(0.3, 10.0),
            "exposure": _log(0.003, 0.3),
            "dim": _choose(16, 32, 64),
        },
        "ubpr": {"clip": _log(0.01, 1.0), "reg": _log(1e-4, 0.1), "lr": _log(1e-3, 0.02), "dim": _choose(16, 32, 64)},
        "slate_thompson": {
            "lr": _log(3e-3, 0.1),
            "tempering": _log(0.01, 1.0),
            "dynamics": _choose("linear", "gru", "linear_gru"),
            "prior_group": _log(0.3, 5.0),
            "prior_spread": _log(0.1, 5.0),
            "prior_start": _log(0.3, 5.0),
        },
        "sasrec": {
            "lr": _log(5e-4, 1e-2),
            "dropout": Range(0.0, 0.5),
            "temperature": _log(0.03, 0.2),
            "dim": _choose(64, 128),
            "blocks": Range(1, 3),
        },
        "gru4rec": {
            "lr": _log(5e-4, 1e-2),
            "dropout": Range(0.0, 0.5),
            "temperature": _log(0.03, 0.2),
            "dim": _choose(64, 128),
            "hidden": _choose(64, 128, 256),
        },
        "lr": {"lr": _log(1e-3, 0.1), "embedding_reg": _log(1e-6, 0.1)},
        "fm": {"lr": _log(1e-3, 0.1), "embedding_reg": _log(1e-6, 0.1), "dim": _choose(8, 16, 32)},
        "mlp": {
            **_NETWORK,
            "hidden": _choose((256, 128), (400, 400, 400)),
        },
        "deepfm": {
            **_NETWORK,
            "hidden": _choose((256, 128), (400, 400, 400)),
        },
        "dcnv2": {
            **_NETWORK,
            "hidden": _choose((256, 128), (400, 400, 400)),
            "cross_layers": Range(1, 4),
        },
        "finalmlp": {
            **_NETWORK,
            "heads": _choose(1, 4, 16),
            "select": _choose(False, True),
        },
        "finalnet": {
            **_NETWORK,
            "hidden_2": _choose((), (128,)),
            "gate": _choose(False, True),
        },
        "lightgbm": {
            "lr": _log(0.02, 0.3),
            "leaves": Range(7, 255, log=True),
            "min_rows": Range(1, 200, log=True),
            "reg": _log(1e-2, 100.0),
            "category_reg": _log(0.1, 100.0),
        },
        "din": {
            **_NETWORK,
            "softmax": _choose(False, True),
        },
        "dien": {
            **_NETWORK,
            "auxiliary": _log(0.03, 3.0),
        },
        "mmoe": {
            **_NETWORK,
            "experts": _choose(2, 4, 8),
            "weighting": _choose("fixed", "uncertainty"),
        },
        "ple": {
            **_NETWORK,
            "levels": Range(1, 2),
            "weighting": _choose("fixed", "uncertainty"),
        },
        "esmm": {"lr": _log(5e-4, 1e-2), "embedding_reg": _log(1e-6, 0.1), "dropout": Range(0.0, 0.5)},
        "aw_moe": {
            **_NETWORK,
            "pool": _choose("sum", "mean", "softmax"),
            "contrast": _log(0.01, 1.0),
            "temperature": _log(0.05, 1.0),
            "drop_events": Range(0.1, 0.6),
        },
        "autoint": {
            **_NETWORK,
            "layers": Range(1, 4),
            "form": _choose("paper", "original", "fuxictr"),
            "wide": _choose(False, True),
        },
        "autoint_plus": {
            **_NETWORK,
            "layers": Range(1, 3),
            "hidden": _choose((256, 128), (400, 400)),
            "wide": _choose(False, True),
        },
        "optinter": {
            **_NETWORK,
            "pair_reg": _log(0.1, 100.0),
            "pair_min_count": _choose(2, 5, 20),
            "margin": _choose(0.0, 0.05, 0.1, 0.2),
        },
        "cold": {"lr": _log(5e-4, 1e-2), "embedding_reg": _log(1e-6, 0.1), "dropout": Range(0.0, 0.5)},
        "epsilon_greedy": {"epsilon": _log(0.005, 0.5), "prior": Range(0.0, 1.0)},
        "ucb1": {"width": _log(0.02, 4.0)},
        "thompson": {"prior_clicks": _log(0.1, 10.0), "prior_refusals": _log(0.1, 100.0)},
        "linucb": {"form": _choose("shared", "disjoint", "hybrid"), "alpha": _log(0.01, 3.0), "reg": _log(0.01, 100.0)},
        "lin_ts": {"form": _choose("shared", "disjoint"), "spread": _log(0.01, 2.0), "reg": _log(0.01, 100.0)},
        "cascade_ucb": {"bound": _choose("ucb1", "kl-ucb"), "width": _log(0.05, 3.0)},
        "cascade_ts": {"prior_clicks": _log(0.1, 10.0), "prior_refusals": _log(0.1, 100.0)},
        "cascade_linucb": {"sigma": _log(0.05, 2.0), "c": _log(0.1, 3.0)},
        "cascade_lin_ts": {"sigma": _log(0.05, 2.0)},
    }
)


def space_of(system: str) -> dict[str, Range]:
    """Return the search space of a system (empty where nothing is to be tuned)."""
    return dict(SPACES.get(system, {}))
