"""Blocks of rows, in and out, as fast as the driver allows: COPY on PostgreSQL, statements of many rows on SQLite.

SQLite's driver hands the interpreter to others at every row that it takes or gives, and waits for its turn to have it back. In
a busy process that wait is many times the row's own cost, so what is asked all the time goes as one row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Any

import pyarrow as pa
from sqlalchemy import BigInteger, Boolean, Column, Connection, Double, Index, Integer, Table, func, select, text

from palate.serve.store.tables import IN_ORDER, meta

#: Rows of a block, and most rows of one of SQLite's statements.
BLOCK, STATEMENT = 50_000, 256


def put_block(connection: Connection, table: Table, names: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Insert rows whose values stand in the order of ``names``; they are trusted."""
    quote = connection.dialect.identifier_preparer.quote
    into = f"{quote(table.name)} ({', '.join(quote(name) for name in names)})"
    if connection.dialect.name == "sqlite":
        places = f"({', '.join('?' * len(names))})"
        for block in _pieces([tuple(row) for row in rows]):
            words = f"INSERT INTO {into} VALUES {', '.join([places] * len(block))}"
            connection.exec_driver_sql(words, tuple(chain.from_iterable(block)))
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(tuple(row))


def _pieces(rows: list[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Cut rows into pieces whose lengths are powers of two: few different statements, which the driver keeps prepared."""
    start = 0
    while start < len(rows):
        stop = start + min(STATEMENT, 1 << ((len(rows) - start).bit_length() - 1))
        yield rows[start:stop]
        start = stop


def names_new(connection: Connection, key: Column[Any], ids: Iterable[str]) -> list[str]:
    """Return those ids that no row of the table of ``key`` has, in order."""
    wanted = sorted(set(ids))
    if not wanted:
        return []
    words = _unnamed(connection.dialect.name, key)
    given: Any = json.dumps(wanted) if connection.dialect.name == "sqlite" else wanted
    return sorted(row[0] for row in connection.exec_driver_sql(words, (given,)))


@cache
def _unnamed(dialect: str, key: Column[Any]) -> str:
    among = "json_each(?)" if dialect == "sqlite" else "unnest(%s::text[]) AS one (value)"
    return f'SELECT value FROM {among} WHERE NOT EXISTS (SELECT 1 FROM "{key.table.name}" WHERE "{key.name}" = value)'


def rows_named(connection: Connection, columns: Sequence[Column[Any]], key: Column[Any], ids: Iterable[str]) -> list[Any]:
    """Return the rows of one table whose ``key`` is among some ids, as plain tuples in the order of ``columns``.

    The ids go as one value, so any number of them is one statement that both sides have seen before.
    """
    wanted = sorted(ids)
    if not wanted:
        return []
    words = _named(connection.dialect.name, tuple(columns), key)
    given: Any = json.dumps(wanted) if connection.dialect.name == "sqlite" else wanted
    return list(connection.exec_driver_sql(words, (given,)).all())


@cache
def _named(dialect: str, columns: tuple[Column[Any], ...], key: Column[Any]) -> str:
    among = "IN (SELECT value FROM json_each(?))" if dialect == "sqlite" else "= ANY(%s)"
    listed = ", ".join(f'"{column.name}"' for column in columns)
    return f'SELECT {listed} FROM "{key.table.name}" WHERE "{key.name}" {among}'


def read_blocks(connection: Connection, statement: Any, size: int = BLOCK) -> Iterator[Sequence[Any]]:
    """Give the rows of a statement block by block (on a connection of ``Database.snapshot``, which streams)."""
    result = connection.execution_options(yield_per=size).execute(statement)
    yield from result.partitions(size)


def arrow_schema(table: Table) -> pa.Schema:
    """Return the Arrow schema of a table."""
    return pa.schema([pa.field(c.name, _arrow_type(c.type), nullable=bool(c.nullable)) for c in table.columns])


def is_empty(connection: Connection) -> bool:
    """Say whether nothing was put into a store yet (its own settings don't count)."""
    return not any(connection.execute(select(table).limit(1)).first() for table in IN_ORDER if table is not meta)


@contextmanager
def without_indexes(connection: Connection, table: Table) -> Iterator[None]:
    """Build the indexes of a table after it was filled, which is several times faster."""
    indexes: list[Index] = sorted(table.indexes, key=lambda index: str(index.name))
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


def settle_numbers(connection: Connection) -> None:
    """Have PostgreSQL go on counting after the numbers that were put in (SQLite does so by itself)."""
    if connection.dialect.name != "postgresql":
        return
    for table in IN_ORDER:
        if "n" in table.c:
            last = select(func.coalesce(func.max(table.c.n), 0) + 1).scalar_subquery()
            sequence = func.pg_get_serial_sequence(table.name, text("'n'"))
            connection.execute(select(func.setval(sequence, last, False)))


def _arrow_type(kind: Any) -> pa.DataType:
    if isinstance(kind, Boolean):
        return pa.bool_()
    if isinstance(kind, (BigInteger, Integer)):
        return pa.int64()
    return pa.float64() if isinstance(kind, Double) else pa.string()
