"""Rankers of Palate and FuxiCTR that are the same system, with settings that make them alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palate.rank.autoint import AutoInt, AutoIntPlus
from palate.rank.dcnv2 import DCNv2
from palate.rank.deepfm import DeepFM
from palate.rank.dien import DIEN
from palate.rank.din import DIN
from palate.rank.finalmlp import FinalMLP
from palate.rank.finalnet import FinalNet
from palate.rank.fm import FM
from palate.rank.linear import LR
from palate.rank.mlp import MLPRanker
from palate.rank.mmoe import MMoE
from palate.rank.neural import NeuralRanker
from palate.rank.ple import PLE

DIM, DROPOUT, HIDDEN = 16, 0.1, (256, 128)


@dataclass(frozen=True)
class System:
    """One ranker on both sides.

    Attributes
    ----------
    own, settings
        Palate's class, and its settings beside those that all share.
    peer, peer_settings
        The name of FuxiCTR's class, and likewise.
    peer_penalty
        What FuxiCTR's class calls the penalty on vectors (of LR and FM it weighs all weights).
    needs
        ``rows`` alone, or the ``history`` or second ``tasks`` that only MovieLens has here.
    """

    own: type[NeuralRanker]
    settings: Mapping[str, Any]
    peer: str
    peer_settings: Mapping[str, Any]
    peer_penalty: str = "embedding_regularizer"
    needs: Literal["rows", "history", "tasks"] = "rows"


_DEEP = {"hidden": HIDDEN, "dropout": DROPOUT}
_ATTENTION = {"layers": 3, "heads": 2, "units": 16, "form": "fuxictr", "attention_dropout": DROPOUT, "dropout": DROPOUT}
_PEER_ATTENTION = {"attention_layers": 3, "num_heads": 2, "attention_dim": 16, "net_dropout": DROPOUT}
_PEER_ATTENTION |= {"use_residual": True, "use_scale": True, "layer_norm": True}
_EXPERTS = {"hidden": (128, 64), "tower": (32,), "dropout": DROPOUT}
_PEER_EXPERTS = {"expert_hidden_units": [128, 64], "gate_hidden_units": [], "tower_hidden_units": [32], "net_dropout": DROPOUT}
_PEER_EXPERTS |= {"num_tasks": 2, "task": ["binary_classification"] * 2}
_PEER_DEEP = {"hidden_units": list(HIDDEN), "net_dropout": DROPOUT}
SYSTEMS: dict[str, System] = {
    "lr": System(LR, {}, "LR", {}, "regularizer"),
    "fm": System(FM, {}, "FM", {}, "regularizer"),
    "mlp": System(MLPRanker, _DEEP, "DNN", _PEER_DEEP),
    "deepfm": System(DeepFM, _DEEP, "DeepFM", _PEER_DEEP),
    "dcnv2": System(
        DCNv2,
        {**_DEEP, "structure": "parallel", "cross_layers": 3},
        "DCNv2",
        {
            "model_structure": "parallel",
            "num_cross_layers": 3,
            "parallel_dnn_hidden_units": list(HIDDEN),
            "net_dropout": DROPOUT,
        },
    ),
    "autoint": System(AutoInt, _ATTENTION, "AutoInt", {**_PEER_ATTENTION, "dnn_hidden_units": []}),
    "autoint_plus": System(
        AutoIntPlus, {**_ATTENTION, "hidden": HIDDEN}, "AutoInt", {**_PEER_ATTENTION, "dnn_hidden_units": list(HIDDEN)}
    ),
    "finalmlp": System(
        FinalMLP,
        {**_DEEP, "hidden_2": HIDDEN, "heads": 4, "gate_hidden": (128,)},
        "FinalMLP",
        {
            "mlp1_hidden_units": list(HIDDEN),
            "mlp2_hidden_units": list(HIDDEN),
            "mlp1_dropout": DROPOUT,
            "mlp2_dropout": DROPOUT,
            "fs_hidden_units": [128],
            "num_heads": 4,
        },
    ),
    "finalnet": System(
        FinalNet,
        {"hidden": (128, 128), "hidden_2": (128,), "dropout": DROPOUT},
        "FinalNet",
        {
            "block1_hidden_units": [128, 128],
            "block2_hidden_units": [128],
            "block1_dropout": DROPOUT,
            "block2_dropout": DROPOUT,
            "use_feature_gating": True,
        },
    ),
    "din": System(
        DIN,
        {"hidden": (200, 80), "attention_hidden": (36,), "dropout": DROPOUT, "history": ("history",), "target": ("item",)},
        "DIN",
        {
            "dnn_hidden_units": [200, 80],
            "dnn_activations": "Dice",
            "attention_hidden_units": [36],
            "net_dropout": DROPOUT,
            "din_target_field": ["item"],
            "din_sequence_field": ["history"],
        },
        needs="history",
    ),
    "dien": System(
        DIEN,
        {"hidden": (200, 80), "auxiliary": 0.0, "dropout": DROPOUT, "history": ("history",), "target": ("item",)},
        "DIEN",
        {
            "dnn_hidden_units": [200, 80],
            "dnn_activations": "Dice",
            "batch_norm": False,
            "net_dropout": DROPOUT,
            "dien_target_field": ["item"],
            "dien_sequence_field": ["history"],
            "dien_neg_seq_field": [],
            "aux_loss_alpha": 0,
        },
        needs="history",
    ),
    "mmoe": System(MMoE, {**_EXPERTS, "experts": 4}, "MMoE", {**_PEER_EXPERTS, "num_experts": 4}, needs="tasks"),
    "ple": System(
        PLE,
        {**_EXPERTS, "specific": 2, "shared": 2},
        "PLE",
        {**_PEER_EXPERTS, "num_specific_experts": 2, "num_shared_experts": 2},
        needs="tasks",
    ),
}
