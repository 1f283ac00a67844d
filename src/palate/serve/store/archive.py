"""The whole store as a folder of Parquet files, and back: block by block, whole or not at all.

The folder holds everything, hashes of API keys and personal data included: guard it like the store.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Connection, Table, delete, select

from palate.data.whole import whole_folder
from palate.errors import DataError
from palate.progress import Progress, ProgressEvent, silent
from palate.serve.errors import ConflictError
from palate.serve.store.bulk import BLOCK, arrow_schema, is_empty, put_block, read_blocks, settle_numbers
from palate.serve.store.schema import HEAD, IDENTITY, version
from palate.serve.store.store import Store
from palate.serve.store.tables import IN_ORDER, meta

#: Description of the folder.
MANIFEST = "store.json"
_REMEDY = "export the store again"


def export_store(store: Store, folder: str | Path, *, progress: Progress = silent) -> Path:
    """Write every table as it is at one moment; an earlier export of that name is replaced.

    Raises
    ------
    DataError
        If the folder holds something else.
    """
    folder = Path(folder)
    with whole_folder(folder, MANIFEST) as target, store.database.snapshot() as connection:
        rows = {}
        for at, table in enumerate(IN_ORDER):
            progress(ProgressEvent("Export", at, len(IN_ORDER)))
            rows[table.name] = _write(connection, table, target / f"{table.name}.parquet")
        facts = {"kind": "palate-store", "schema": version(connection), "identity": store.identity, "rows": rows}
        (target / MANIFEST).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    progress(ProgressEvent("Export", len(IN_ORDER), len(IN_ORDER)))
    return folder


def import_store(store: Store, folder: str | Path, *, progress: Progress = silent) -> dict[str, int]:
    """Put an export into an empty store, in one transaction; return rows by table. The store takes its identity over.

    Raises
    ------
    ConflictError
        If the store is not empty.
    DataError
        If the folder is damaged, or of another schema.
    """
    folder = Path(folder)
    facts = _facts(folder)
    with store.database.write() as connection:
        if not is_empty(connection):
            raise ConflictError("an export goes into an empty store only.", where=store.url, remedy="open a new one")
        connection.execute(delete(meta))
        for at, table in enumerate(IN_ORDER):
            progress(ProgressEvent("Import", at, len(IN_ORDER)))
            number = _read(connection, table, folder / f"{table.name}.parquet")
            if number != facts["rows"].get(table.name):
                what = "a file has another number of rows than its description says."
                raise DataError(what, where=folder / f"{table.name}.parquet", value=number, remedy=_REMEDY)
        settle_numbers(connection)
        identity = connection.scalars(select(meta.c.value).where(meta.c.key == IDENTITY)).one()
    progress(ProgressEvent("Import", len(IN_ORDER), len(IN_ORDER)))
    store.identity = identity
    return dict(facts["rows"])


def _write(connection: Connection, table: Table, path: Path) -> int:
    schema, total = arrow_schema(table), 0
    with pq.ParquetWriter(path, schema) as writer:
        for block in read_blocks(connection, select(table).order_by(*table.primary_key)):
            columns = zip(*block, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            total += len(block)
    return total


def _read(connection: Connection, table: Table, path: Path) -> int:
    schema, total = arrow_schema(table), 0
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(schema):
                raise DataError("a file of the export has other columns.", where=path, remedy=_REMEDY)
            for batch in file.iter_batches(BLOCK):
                put_block(connection, table, schema.names, zip(*(c.to_pylist() for c in batch.columns), strict=True))
                total += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        what = "a file of the export is missing or damaged."
        raise DataError(what, where=path, value=str(error).splitlines()[0], remedy=_REMEDY) from error
    return total


def _facts(folder: Path) -> dict[str, Any]:
    place = folder / MANIFEST
    try:
        facts = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("this is no export of a store.", where=place, value=str(error), remedy=_REMEDY) from error
    if not isinstance(facts, dict) or facts.get("kind") != "palate-store" or not isinstance(facts.get("rows"), dict):
        raise DataError("this is no export of a store.", where=place, remedy=_REMEDY)
    if facts.get("schema") != HEAD:
        remedy = "import it with the Palate that wrote it, then open that store with this one"
        raise DataError("the export has another schema.", where=place, value=facts.get("schema"), remedy=remedy)
    return facts
