"""Rows of the catalogue: the baselines."""

from __future__ import annotations

from palate.catalog.system import System

_LINEAR = ("unseen users", "explains", "similar")

BASELINES = (
    System("popularity", "Popularity", "recommend", "popularity", "palate.recommend.popularity:Popularity",
           abilities=("unseen users", "explains"), claim="popularity_by_hand"),
    System("ease", "EASE", "recommend", "linear", "palate.recommend.ease:EASE",
           citation="Steck, WWW 2019", abilities=_LINEAR, claim="baselines_beat_popularity"),
)  # fmt: skip
