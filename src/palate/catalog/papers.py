"""Rows of the catalogue: the 61 papers."""

from __future__ import annotations

from palate.catalog.system import System

PAPERS: tuple[System, ...] = ()
