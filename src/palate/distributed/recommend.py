"""Answers for everybody on a cluster, by Ray Data: the questions, blocks and rows of one machine, spread over actors.

Each actor takes the bundle out of the object store (one copy a node, read by all its actors in place), so no folder of bundles
has to be shared. Pieces of questions (:mod:`palate.study.questions`) go to actors as they are; a piece of a Parquet file is a
row group, which the actor reads itself: that file must have the same name on every node, and so must the folder of ``parts``.
A piece is cut into the same blocks as on one machine and answered by the same code, so the answers have the same bits.

Blocks come back in the order of the questions, and are counted: a block that is missing, or comes twice, is an error. An actor
whose process or node dies is started again, and its pieces are answered again.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from palate.catalog.registry import restored
from palate.contracts.bundle import Bundle
from palate.distributed.cluster import cores_of_nodes, ray_module
from palate.errors import ConfigError, PalateError
from palate.extras import require
from palate.study.answers import Question, Tally, answered, write_part
from palate.study.questions import first_of, people_in

PURPOSE = "palate recommend --engine ray"
AGAIN = "run it again; if it comes back, report it"


@dataclass(frozen=True)
class OnRay:
    """Answers on the cluster that this process is connected to (:func:`palate.distributed.cluster.connected`).

    Parameters
    ----------
    ray
        The module, connected.
    bundle
        The fitted model, as :func:`palate.contracts.bundle.read_bundle` gives it.
    cores
        Of an actor; its kernels and BLAS use as many threads.
    actors
        How many there may be; by default all that the cluster has cores for.
    """

    ray: Any
    bundle: Bundle
    cores: int = 1
    actors: int | None = None

    def answers(self, pieces: Iterable[pa.Table], question: Question) -> Iterator[pa.Table]:
        """Return blocks of answers, in the order of the questions."""
        return self._run(pieces, question, None)

    def parts(self, pieces: Iterable[pa.Table], question: Question, folder: Path) -> Iterator[Tally]:
        """Write the answers of each piece as a file of a folder that all nodes see under this name."""
        for block in self._run(pieces, replace(question, labels=False), folder.resolve()):
            for row in block.to_pylist():
                yield Tally(row["people"], row["cold"])

    def _run(self, pieces: Iterable[pa.Table], question: Question, folder: Path | None) -> Iterator[pa.Table]:
        count, references = 0, []
        for piece in pieces:
            references.append(self.ray.put(piece))
            count += people_in(piece)
        if not references:
            return
        data = _ray_data()
        todo = data.from_arrow_refs(references)
        todo.context.enable_progress_bars = todo.context.print_on_execution_start = False
        todo.context.execution_options.preserve_order = True
        most = self._most()
        done = todo.map_batches(
            Answerer,
            fn_constructor_args=(self.ray.put(self.bundle), question, folder, self.cores),
            batch_size=None,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=min(most, len(references))),
            num_cpus=self.cores,
        )
        yield from _in_order(self._results(done), count)

    def _most(self) -> int:
        room = sum(cores // self.cores for cores in cores_of_nodes(self.ray))
        if room == 0:
            remedy = "ask for fewer cores an actor, or add nodes"
            raise ConfigError("no node has cores for one actor.", where=PURPOSE, value=self.cores, remedy=remedy)
        return room if self.actors is None else min(room, self.actors)

    def _results(self, done: Any) -> Iterator[pa.Table]:
        try:
            yield from done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1)
        except self.ray.exceptions.RayError as error:
            if isinstance(cause := getattr(error, "cause", None), PalateError):
                raise cause from None
            raise


def _ray_data() -> Any:
    """Import Ray Data, which else tells of its own changes, of every step, and of errors that are raised anyway."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = require("ray.data", PURPOSE)
        data.DataContext.get_current()
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return data


class Answerer:
    """What each actor holds: the model, and how to answer.

    Parameters
    ----------
    bundle
        Reference of the bundle in the object store.
    question
        What is asked about every person.
    folder
        Where to write parts; ``None`` returns the answers.
    cores
        Threads to use.
    """

    def __init__(self, bundle: Any, question: Question, folder: Path | None, cores: int) -> None:
        from palate.runtime import set_threads

        set_threads(cores)
        self.model = restored(ray_module(PURPOSE).get(bundle))
        self.question, self.folder = question, folder

    def __call__(self, piece: pa.Table) -> Iterator[pa.Table]:
        """Answer a piece; return the blocks, or how many people the written part answers."""
        blocks = answered(self.model, piece, self.question)
        if self.folder is None:
            yield from blocks
            return
        tally = write_part(blocks, self.folder, first_of(piece))
        yield pa.table({"row": [first_of(piece)], "people": [tally.people], "cold": [tally.cold]})


def _in_order(blocks: Iterable[pa.Table], count: int) -> Iterator[pa.Table]:
    """Pass blocks on while each begins where the last one ended, and see that they are all there."""
    due = 0
    for block in blocks:
        rows = block["row"].to_numpy()
        sizes = block["people"].to_numpy() if "people" in block.column_names else np.ones(len(rows), np.int64)
        ends = due + np.cumsum(sizes)
        if not np.array_equal(rows, ends - sizes):
            raise PalateError("answers came out of order, or twice.", where=PURPOSE, value=f"question {due}", remedy=AGAIN)
        due = int(ends[-1]) if len(ends) else due
        yield block
    if due != count:
        raise PalateError("answers are missing.", where=PURPOSE, value=f"{due:,} of {count:,}", remedy=AGAIN)
