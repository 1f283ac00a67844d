"""Rows of the catalogue: the baselines."""

from __future__ import annotations

from palate.catalog.system import System

_LINEAR = ("unseen users", "explains", "similar")

BASELINES = (
    System("popularity", "Popularity", "recommend", "popularity", "palate.recommend.popularity:Popularity",
           abilities=("unseen users", "explains"), claim="popularity_by_hand"),
    System("ease", "EASE", "recommend", "linear", "palate.recommend.ease:EASE",
           citation="Steck, WWW 2019", abilities=_LINEAR, claim="baselines_beat_popularity"),
    System("sasrec", "SASRec", "recommend", "sequential", "palate.recommend.sasrec:SASRec",
           citation="Kang and McAuley, ICDM 2018; eSASRec, RecSys 2025", needs=("interactions", "torch"),
           abilities=("vectors", "unseen users", "explains", "similar"), faithfulness="in the style of",
           claim="softmax_beats_bce"),
    System("gru4rec", "GRU4Rec", "recommend", "sequential", "palate.recommend.gru4rec:GRU4Rec",
           citation="Hidasi et al., ICLR 2016; Hidasi and Karatzoglou, CIKM 2018", needs=("interactions", "torch"),
           abilities=("vectors", "unseen users", "explains", "similar"), faithfulness="in the style of"),
)  # fmt: skip
