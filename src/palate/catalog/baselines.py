"""Rows of the catalogue: the baselines."""

from __future__ import annotations

from palate.catalog.system import Ability, System

_LINEAR: tuple[Ability, ...] = ("unseen users", "explains", "similar")

BASELINES = (
    System("random", "Random", "recommend", "popularity", "palate.recommend.random:Random"),
    System("popularity", "Popularity", "recommend", "popularity", "palate.recommend.popularity:Popularity",
           abilities=("unseen users", "explains", "incremental"), claim="popularity_by_hand"),
    System("ease", "EASE", "recommend", "linear", "palate.recommend.ease:EASE",
           citation="Steck, WWW 2019", abilities=_LINEAR, claim="baselines_beat_popularity"),
    System("item_knn", "ItemKNN", "recommend", "neighbours", "palate.recommend.item_knn:ItemKNN",
           citation="Sarwar et al., WWW 2001", abilities=_LINEAR, claim="baselines_beat_popularity"),
    System("user_knn", "UserKNN", "recommend", "neighbours", "palate.recommend.user_knn:UserKNN",
           citation="Resnick et al., CSCW 1994", abilities=("unseen users", "explains")),
    System("slim", "SLIM", "recommend", "linear", "palate.recommend.slim:SLIM",
           citation="Ning and Karypis, ICDM 2011", abilities=_LINEAR),
    System("ials", "iALS", "recommend", "factorisation", "palate.recommend.ials:IALS",
           citation="Hu et al., ICDM 2008; Rendle et al., RecSys 2022, arXiv 2110.14037",
           abilities=("vectors", "unseen users", "explains", "similar", "incremental"), claim="baselines_beat_popularity",
           quick={"dim": 8, "epochs": 3}),
    System("bpr_mf", "BPR-MF", "recommend", "factorisation", "palate.recommend.bpr_mf:BPRMF",
           citation="Rendle et al., UAI 2009", needs=("interactions", "torch"),
           abilities=("vectors", "unseen users", "explains", "similar", "incremental"), quick={"dim": 8, "epochs": 5}),
    System("lightgcn", "LightGCN", "recommend", "graph", "palate.recommend.lightgcn:LightGCN",
           citation="He et al., SIGIR 2020, arXiv 2002.02126", needs=("interactions", "torch"),
           abilities=("vectors", "unseen users", "explains", "similar"), quick={"dim": 8, "epochs": 3, "batch_size": 64}),
    System("sasrec", "SASRec", "recommend", "sequential", "palate.recommend.sasrec:SASRec",
           citation="Kang and McAuley, ICDM 2018; eSASRec, RecSys 2025", needs=("interactions", "torch"),
           abilities=("vectors", "unseen users", "explains", "similar", "incremental"), faithfulness="in the style of",
           claim="softmax_beats_bce"),
    System("gru4rec", "GRU4Rec", "recommend", "sequential", "palate.recommend.gru4rec:GRU4Rec",
           citation="Hidasi et al., ICLR 2016; Hidasi and Karatzoglou, CIKM 2018", needs=("interactions", "torch"),
           abilities=("vectors", "unseen users", "explains", "similar", "incremental"), faithfulness="in the style of"),
)  # fmt: skip
