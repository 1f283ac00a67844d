"""JSON lines: one object a line, plain or gzip."""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.json as pa_json

from palate.data.readers.bad_rows import DROP, BadRows
from palate.data.readers.delimited import BROKEN_GZIP, first_line, open_bytes, read_lines
from palate.data.readers.source import Source
from palate.errors import DataError

#: Lines parsed at once by the careful way.
LINES = 1 << 16

#: Lines read to learn names and types.
SAMPLE = 1000

#: A line of null, or a second value in a line: Arrow's parser crashes on the one, and takes the other for a line more.
ODD = (re.compile(rb"\n[ \t\r]*null"), re.compile(rb"\}[ \t\r]*(?:\{|null)"))


class JsonLinesSource(Source):
    """A file of JSON objects.

    Columns are read by Arrow with the types of the first thousand lines. Where a later line does not fit, the file is read
    line by line instead, which accepts or names it exactly.

    Parameters
    ----------
    path
        The file; ``.gz`` is unpacked on the way.
    encoding
        Text encoding.
    lists
        Whether a line may be a list; then only :meth:`rows` is of use.
    """

    def __init__(self, path: Path, *, encoding: str = "utf-8", lists: bool = False) -> None:
        self.where, self.path, self.encoding, self.lists = str(path), path, encoding, lists
        first_line(path, encoding)
        kinds: dict[str, set[type]] = {}
        if lists:
            return
        wrong: DataError | None = None
        for number, line in islice(_full_lines(path, encoding), SAMPLE):
            try:
                found = self._object(line, number)
            except DataError as error:
                wrong = wrong or error
                continue
            for key, value in found.items():
                kinds.setdefault(key, set()).add(type(value))
        if not kinds and wrong is not None:
            raise wrong
        self._kinds = kinds
        self.columns = list(kinds)

    def batches(self, names: Sequence[str], bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield batches of the fields named; an absent field is null."""
        schema = self._schema(names)
        done = 0
        if schema is not None and self.encoding.replace("-", "").lower() == "utf8" and hasattr(pa_json, "open_json"):
            try:
                for batch in self._quick(schema):
                    yield batch.select(list(names))
                    done += batch.num_rows
                return
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, *BROKEN_GZIP, OSError):
                pass
        yield from self._careful(names, bad, done)

    def locate(self, row: int) -> str:
        """Return file and line of a row."""
        number = next((n for n, _ in islice(_full_lines(self.path, self.encoding), row, None)), row + 1)
        return f"{self.where}, line {number}"

    def rows(self) -> Iterator[tuple[int, Any]]:
        """Yield line numbers (from 1) and objects."""
        for number, line in _full_lines(self.path, self.encoding):
            yield number, self._object(line, number)

    def _schema(self, names: Sequence[str]) -> pa.Schema | None:
        types = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        fields = []
        for name in names:
            kinds = self._kinds.get(name, set()) - {type(None)}
            kind = float if kinds == {int, float} else next(iter(kinds)) if len(kinds) == 1 else None
            if kind not in types:
                return None
            fields.append((name, types[kind]))
        return pa.schema(fields)

    def _quick(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        parse = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        with open_bytes(self.path) as stream:
            raw: Any = _Objects(stream)
            read = pa_json.ReadOptions(use_threads=False, block_size=1 << 23)
            yield from pa_json.open_json(pa.PythonFile(raw, "r"), read_options=read, parse_options=parse)

    def _careful(self, names: Sequence[str], bad: BadRows, done: int) -> Iterator[pa.RecordBatch]:
        lines = islice(_full_lines(self.path, self.encoding), done, None)
        types: dict[str, pa.DataType] = {}
        while chunk := list(islice(lines, LINES)):
            objects = []
            for number, line in chunk:
                try:
                    objects.append(self._object(line, number))
                except DataError as error:
                    bad.skip("not a JSON object", str(error.where), line, DROP)
            arrays = [self._column([o.get(name) for o in objects], name, chunk, bad) for name in names]
            for name, array in zip(names, arrays, strict=True):
                types.setdefault(name, array.type)
            yield pa.RecordBatch.from_arrays(arrays, names=list(names))

    def _column(self, values: list[Any], name: str, chunk: list[tuple[int, str]], bad: BadRows) -> pa.Array:
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
        kinds = [type(v) for v in values]
        main = max(set(kinds) - {type(None)}, key=kinds.count)
        odd = next(((at, v) for at, v in enumerate(values) if v is not None and type(v) is not main), None)
        if odd is None:
            odd = next(((at, v) for at, v in enumerate(values) if isinstance(v, int) and abs(v) >= 2**63), (0, values[0]))
        if bad.policy == "drop":
            return pa.array([v if type(v) is main and not (main is int and abs(v) >= 2**63) else None for v in values])
        where = f"{self.where}, line {chunk[odd[0]][0]}"
        what = f"mixed types in field {name!r}: mostly {main.__name__}, here {type(odd[1]).__name__}."
        if type(odd[1]) is main:
            what = f"the number in field {name!r} is beyond 64 bits."
        raise DataError(what, where=where, value=odd[1], remedy=f"write one type throughout, or {DROP}")

    def _object(self, line: str, number: int) -> Any:
        try:
            found = json.loads(line)
        except ValueError:
            found = _literal(line)
        if not isinstance(found, (dict, list) if self.lists else dict):
            remedy = "give one JSON object a line, or name the true format with format= (--format)"
            raise DataError("not a JSON object.", where=f"{self.where}, line {number}", value=line, remedy=remedy)
        return found


class _Objects(io.RawIOBase):
    """A byte stream of JSON lines that raises before it gives out what Arrow's parser does not stand (:data:`ODD`)."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._tail = b"\n"

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        seen = self._tail + block
        if any(pattern.search(seen) for pattern in ODD):
            raise pa.ArrowInvalid("a line that may not be one object")
        self._tail = seen[-64:]
        return block


def _literal(line: str) -> Any:
    """Read a Python literal: the form of Amazon's metadata of 2014."""
    if not line.startswith("{'"):
        return None
    try:
        return ast.literal_eval(line)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _full_lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    return ((n, line) for n, line in enumerate(read_lines(path, encoding), 1) if line.strip())
