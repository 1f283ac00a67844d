"""implicit's recommend behind a minimal FastAPI handler: factors and histories from a file; no store, no filters, no log."""

from __future__ import annotations

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI
from implicit.cpu.als import AlternatingLeastSquares
from pydantic import BaseModel
from scipy import sparse

matrix, factors, port = sparse.load_npz(sys.argv[1]).tocsr(), np.load(sys.argv[2]), int(sys.argv[3])
model = AlternatingLeastSquares(factors=factors["items"].shape[1], num_threads=1)
model.user_factors, model.item_factors = factors["users"], factors["items"]
app = FastAPI()


class Ask(BaseModel):
    """Whom to answer, and how many items."""

    user: int
    k: int = 10


@app.post("/recommend")
async def recommend(ask: Ask) -> dict[str, list[float]]:
    items, scores = model.recommend(ask.user, matrix[ask.user], N=ask.k)
    return {"items": items.tolist(), "scores": scores.tolist()}


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
