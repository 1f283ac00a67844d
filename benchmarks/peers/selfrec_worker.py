"""SELFRec (commit 5b02294) on given parts of a data set: seconds of some batches, or a course of epochs with its evaluations.

Run as released but for one thing: it asks for CUDA everywhere, so ``cuda()`` gives a tensor or module back as it is. Batches
are timed from the moment one is asked for, so drawing negatives counts, as in its own epochs.
"""

import importlib
import os
import random
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from _serve import serve

torch.Tensor.cuda = lambda self, *a, **k: self
torch.nn.Module.cuda = lambda self, *a, **k: self
STATE = {}


class Enough(Exception):
    """Ends a training that was to be timed only."""


def load(source, train, held_out, model, threads=2, **settings):
    """Prepare a model: files of lines ``user item 1``, and what differs from its own configuration."""
    torch.set_num_threads(threads)
    sys.path.insert(0, source)
    os.chdir(source)
    from util.conf import ModelConf

    conf = ModelConf(f"conf/{model}.yaml")
    own = settings.pop("own", {})
    conf.config.update({"training.set": train, "test.set": held_out, **settings})
    conf.config.get(model, {}).update(own)
    STATE.update(conf=conf, model=model, held_out=held_out, train=train)
    return {"settings": {k: v for k, v in conf.config.items() if k != "output"}}


def _made():
    from data.loader import FileIO

    module = importlib.import_module(f"model.graph.{STATE['model']}")
    random.seed(0)
    torch.manual_seed(0)
    conf = STATE["conf"]
    parts = [FileIO.load_data_set(STATE[name], "graph") for name in ("train", "held_out")]
    return module, getattr(module, STATE["model"])(conf, *parts)


def batches(n):
    """Return the seconds of each of ``n`` batches, after one that is not counted, and how many an epoch has."""
    module, model = _made()
    plain, seconds = module.next_batch_pairwise, []

    def timed(*args, **kwargs):
        source, started = plain(*args, **kwargs), time.perf_counter()
        for at, batch in enumerate(source):
            yield batch
            now = time.perf_counter()
            if at:
                seconds.append(now - started)
            if len(seconds) == n:
                raise Enough
            started = now

    module.next_batch_pairwise = timed
    try:
        model.train()
    except Enough:
        pass
    finally:
        module.next_batch_pairwise = plain
    return {"seconds": seconds, "of": -(-len(model.data.training_data) // model.batch_size)}


def course(epochs):
    """Train; return seconds and Recall@20 on the held-out part after each of its own evaluations, which count."""
    _, model = _made()
    model.maxEpoch, points, started = epochs, [], time.perf_counter()
    plain = model.fast_evaluation

    def noted(epoch):
        measure = plain(epoch)
        values = dict(line.strip().split(":") for line in measure[1:])
        points.append([time.perf_counter() - started, float(values["Recall"]), epoch + 1])
        return measure

    model.fast_evaluation = noted
    model.train()
    return points


if __name__ == "__main__":
    serve({"load": load, "batches": batches, "course": course})
