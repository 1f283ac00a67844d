"""An uploaded file on its way: columns, roles, rows, split, and what becomes of it (events of the store, or a model)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palate.catalog.registry import create
from palate.data.audit import Audit
from palate.data.dataset import Dataset
from palate.data.protocols import split as cut
from palate.data.readers import read
from palate.data.readers.bad_rows import BadRows
from palate.data.readers.parts import Options
from palate.data.readers.roles import resolve
from palate.data.readers.tables import open_table
from palate.data.split import Split
from palate.errors import ConfigError, DataError
from palate.evaluation.bootstrap import Interval, bootstrap_ci
from palate.progress import Progress
from palate.serve.errors import ConflictError
from palate.serve.service import Service
from palate.serve.store.exchange import add_dataset
from palate.study.evaluate import evaluate

#: Endings of files that are taken, rows shown, and the metric of a fit.
ENDINGS, SHOWN, METRIC = (".csv.gz", ".tsv.gz", ".csv", ".tsv"), 5, "ndcg@10"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Upload:
    """A file that came in.

    Attributes
    ----------
    folder
        Its own, gone when the page is.
    path
        Where it stands; the name from outside is not used.
    name
        What it was called.
    columns, sample
        Names of columns, and the first rows.
    roles
        Column of each role, as far as names tell.
    trouble
        Why a role could not be told.
    """

    folder: tempfile.TemporaryDirectory[str]
    path: Path
    name: str
    columns: list[str]
    sample: list[list[str]]
    roles: dict[str, str]
    trouble: str | None


@dataclass(frozen=True)
class Fitted:
    """A model fitted on an upload: its folder, and NDCG@10 on the test part with its interval."""

    folder: Path
    seconds: float
    accuracy: Interval


def place_for(name: str) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    """Return a folder of its own, and a path in it for a file of that name.

    Raises
    ------
    DataError
        If its ending is none of a table of text.
    """
    ending = next((end for end in ENDINGS if name.lower().endswith(end)), None)
    if ending is None:
        raise DataError("this is no table of text.", where="upload", value=name, remedy=f"send one of: {', '.join(ENDINGS)}")
    folder = tempfile.TemporaryDirectory(prefix="palate-upload-")
    return folder, Path(folder.name) / f"events{ending}"


def look(folder: tempfile.TemporaryDirectory[str], path: Path, name: str) -> Upload:
    """Read columns and first rows, and tell the roles by their names."""
    source = open_table(path, Options())
    columns = list(source.columns)
    batch = next(iter(source.batches(columns, BadRows("drop", source.locate))), None)
    rows = [] if batch is None else batch.slice(0, SHOWN).to_pylist()
    sample = [["" if row[column] is None else str(row[column]) for column in columns] for row in rows]
    try:
        roles, trouble = resolve(columns, None, name), None
    except DataError as error:
        roles, trouble = {}, error.what
    return Upload(folder, path, name, columns, sample, roles, trouble)


def take(upload: Upload, roles: Mapping[str, str], *, drop: bool) -> Dataset:
    """Read the file with these columns; an empty name leaves a role out."""
    return read(upload.path, columns=roles, on_bad_rows="drop" if drop else "error", name=Path(upload.name).stem or "upload")


def audited(data: Dataset, protocol: str) -> tuple[Split, Audit]:
    """Cut by a protocol, and look for what may be wrong."""
    made = cut(data, protocol)
    return made, made.audit()


def into_store(service: Service, data: Dataset, progress: Progress) -> int:
    """Put all events into the store; those that came in before, in whatever file, stay once. Return how many are new."""
    count = add_dataset(service.store, data, progress=progress)
    service.pulse()
    return count


def fit(service: Service, made: Split, system: str, settings: Mapping[str, Any], name: str, progress: Progress) -> Fitted:
    """Fit a system on the training part, judge it on the test part, and save it among the models.

    Raises
    ------
    LeakError
        If the split has a hard leak.
    ConfigError
        If the name is none of a folder.
    ConflictError
        If there is a folder of that name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError("a model's name has letters, digits, dots, dashes.", where="name", value=name)
    place = service.models / name
    if place.exists():
        raise ConflictError("there is a model of that name.", where="models", value=name, remedy="choose another")
    made.audit().check()
    validation = None if made.valid is None or not len(made.valid) else made.held_out("valid")
    model = create(system, **settings).fit(made.train, validation, progress=progress)
    values = evaluate(model, made.held_out("test"), [METRIC], train=made.train, progress=progress).per_user[METRIC]
    accuracy = bootstrap_ci(values)
    return Fitted(model.save(place, metrics={METRIC: float(accuracy.value)}), model.record_.seconds, accuracy)
