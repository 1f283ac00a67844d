"""LibRecommender's own serving: ALS vectors in Redis, a faiss index, its Sanic program (Redis listens on its standard port)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import libserving
import numpy as np
import pandas as pd
import tensorflow as tf
from libreco.algorithms import ALS
from libreco.data import DatasetPure
from libserving.serialization import embed2redis, save_embed, save_faiss_index
from scipy import sparse

matrix, dim, home, port = sparse.load_npz(sys.argv[1]).tocoo(), int(sys.argv[2]), sys.argv[3], sys.argv[4]
tf.compat.v1.disable_eager_execution()
events = pd.DataFrame({"user": matrix.row, "item": matrix.col, "label": np.ones(matrix.nnz, np.float32)})
train, info = DatasetPure.build_trainset(events)
model = ALS("ranking", info, embed_size=dim, n_epochs=1, reg=5.0, n_threads=2)
model.fit(train, neg_sampling=True, verbose=0)
save_embed(home, model)
save_faiss_index(home, model)
embed2redis(home)
for made in Path(home).glob("faiss_index*"):
    shutil.copy(made, Path(libserving.__file__).parent)  # where its program looks for it
words = ["libserving.sanic_serving.embed_deploy:app", "--single-process", "--host", "127.0.0.1", "--port", port]
os.execv(str(Path(sys.executable).with_name("sanic")), ["sanic", *words])
