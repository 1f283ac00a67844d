"""Delimited text (CSV, TSV and kin), plain or gzip, read in a stream."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from itertools import dropwhile, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv

from palate.data.readers.bad_rows import DROP, BadRows
from palate.data.readers.roles import check_double
from palate.data.readers.source import Source
from palate.errors import DataError

#: Errors of a compressed file that ends too early or is damaged.
BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)

#: Bytes parsed at once.
BLOCK_BYTES = 1 << 23


class DelimitedSource(Source):
    """A delimited text file; every column is text.

    Parameters
    ----------
    path
        The file; ``.gz`` is unpacked on the way.
    separator
        One or more characters; ``None`` tells it from the first line.
    names
        Column names; ``None`` takes the first line.
    encoding
        Such as ``"utf-8"`` or ``"latin-1"``.
    quoted
        Whether double quotes enclose fields; ``None`` says yes unless the separator is a tab.
    """

    typed = False

    def __init__(
        self,
        path: Path,
        *,
        separator: str | None = None,
        names: Sequence[str] | None = None,
        encoding: str = "utf-8",
        quoted: bool | None = None,
    ) -> None:
        self.where, self.path, self.encoding = str(path), path, encoding
        first = first_line(path, encoding)
        if "\r" in first:
            remedy = "end lines with a line feed, as by: tr '\\r' '\\n'"
            raise DataError("the first line holds a carriage return.", where=path, value=first, remedy=remedy)
        self.separator = separator or sniff(first, path)
        self.quoted = (self.separator not in ("\t", "::")) if quoted is None else quoted
        self.header = names is None
        self.columns = list(names) if names is not None else _cells(first, self.separator, self.quoted)
        if self.header and self.columns and not self.columns[0]:
            self.columns[0] = "row"
        check_double(self.columns, self.where)

    def batches(self, names: Sequence[str], bad: BadRows) -> Iterator[pa.RecordBatch]:
        """Yield batches of text columns."""
        wide = len(self.separator) > 1
        parse = pc_csv.ParseOptions(
            delimiter="\t" if wide else self.separator,
            quote_char='"' if self.quoted else False,
            newlines_in_values=self.quoted,
            invalid_row_handler=lambda row: self._ragged(row, bad),
        )
        convert = pc_csv.ConvertOptions(
            include_columns=list(names),
            column_types={name: pa.string() for name in names},
            null_values=[""],
            strings_can_be_null=True,
        )
        read = pc_csv.ReadOptions(
            use_threads=False,
            block_size=BLOCK_BYTES,
            column_names=list(self.columns),
            skip_rows_after_names=0,
            skip_rows=_blank_lines(self.path) + 1 if self.header else 0,
            encoding="utf8" if self.encoding.replace("-", "").lower() == "utf8" else self.encoding,
        )
        try:
            with open_bytes(self.path) as raw:
                stream: Any = _Narrow(raw, self.separator.encode()) if wide else raw
                if not _anything_after_header(stream, self.header):
                    return
            with open_bytes(self.path) as raw:
                stream = _Narrow(raw, self.separator.encode()) if wide else raw
                reader = pc_csv.open_csv(pa.PythonFile(stream, "r"), read, parse, convert)
                yield from reader
        except (*BROKEN_GZIP, OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
            raise self._explain(error) from error

    def locate(self, row: int) -> str:
        """Return file and line of a row, counting quoted line breaks and blank lines as they are."""
        with open_text(self.path, self.encoding) as stream:
            wanted = row + int(self.header)
            rows = dropwhile(lambda row: not "".join(row[1]).strip(), _rows(stream, self.separator, self.quoted))
            full = (line for line, cells in rows if cells)
            for line in islice(full, wanted, wanted + 1):
                return f"{self.where}, line {line}"
        return f"{self.where}, row {row + 1}"

    def _ragged(self, row: Any, bad: BadRows) -> str:
        if bad.policy == "error":
            return "error"
        bad.skip("ragged line", self.where, row.text)
        return "skip"

    def _explain(self, error: Exception) -> DataError:
        text = str(error)
        if isinstance(error, BROKEN_GZIP) or "compressed stream" in text.lower():
            return truncated(self.path, error)
        if "UTF8" in text or isinstance(error, UnicodeDecodeError):
            return wrong_encoding(self.path, self.encoding)
        if "Expected" in text and "columns" in text:
            return self._ragged_error(text)
        return DataError(
            "this file can't be parsed.",
            where=self.where,
            value=text,
            remedy="name its form with format= (--format) or separator= (--read separator=…)",
        )

    def _ragged_error(self, text: str) -> DataError:
        width = len(self.columns)
        with open_text(self.path, self.encoding) as stream:
            for line, cells in _rows(stream, self.separator, self.quoted):
                if cells and len(cells) != width:
                    what = f"ragged line: {len(cells)} fields where {width} are expected."
                    return DataError(what, where=f"{self.where}, line {line}", value=self.separator.join(cells), remedy=DROP)
        return DataError("ragged line.", where=self.where, value=text, remedy=DROP)


class _Narrow(io.RawIOBase):
    """A byte stream in which a separator of several characters is replaced by a tab."""

    def __init__(self, stream: IO[bytes], separator: bytes) -> None:
        self._stream, self._separator, self._rest = stream, separator, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        whole = self._rest + block
        tail = len(self._separator) - 1
        cut = len(whole)
        if block:
            while cut > 0 and len(whole) - cut < tail and whole[cut - 1 : cut] == self._separator[:1]:
                cut -= 1
        self._rest = whole[cut:]
        out = whole[:cut].replace(self._separator, b"\t")
        return out if out or not block else self.read(size)


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, unpacked where it is gzip."""
    with open(path, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if packed else open(path, "rb")  # type: ignore[return-value]


def open_text(path: Path, encoding: str = "utf-8") -> IO[str]:
    """Open a file for reading text, unpacked where it is gzip; bytes that do not fit the encoding are shown as marks."""
    return io.TextIOWrapper(open_bytes(path), encoding=encoding, errors="replace", newline="")


def first_line(path: Path, encoding: str = "utf-8") -> str:
    """Return the first line that is not blank, without a byte order mark.

    Raises
    ------
    DataError
        If the file is empty, truncated, of another encoding or no text.
    """
    try:
        with open_bytes(path) as stream:
            line = next((s for s in iter(lambda: stream.readline(1 << 20), b"") if s.strip()), b"")
    except (*BROKEN_GZIP, OSError) as error:
        raise truncated(path, error) from error
    if not line:
        raise DataError("the file is empty.", where=path, remedy="give a file with rows of at least two users")
    try:
        text = line.decode(encoding).lstrip("\ufeff").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise wrong_encoding(path, encoding) from error
    if "\0" in text:
        remedy = "name its true format with format= (--format), or write it as UTF-8 text"
        raise DataError("this is no text file.", where=path, value=text, remedy=remedy)
    return text


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """Yield the lines of a text file without their ends.

    Raises
    ------
    DataError
        If the file is truncated or of another encoding.
    """
    try:
        with open_bytes(path) as raw, io.TextIOWrapper(raw, encoding=encoding) as stream:
            for line in stream:
                yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise wrong_encoding(path, encoding) from error
    except (*BROKEN_GZIP, OSError) as error:
        raise truncated(path, error) from error


def truncated(path: Path, error: Exception) -> DataError:
    """Return the error of a compressed file that is cut or damaged."""
    return DataError(
        "the compressed file is cut short or damaged.",
        where=path,
        value=str(error),
        remedy=f"fetch or write it again, and check it with: gzip -t {path}",
    )


def wrong_encoding(path: Path, encoding: str) -> DataError:
    """Return the error of the first line that does not fit an encoding."""
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode(encoding)
            except UnicodeDecodeError as error:
                value = line[max(0, error.start - 20) : error.start + 20]
                where = f"{path}, line {number}, byte {error.start + 1}"
                return DataError(f"the text is not {encoding}.", where=where, value=value, remedy=_true_encoding(path))
    return DataError(f"the text is not {encoding}.", where=path, remedy=_true_encoding(path))


def _true_encoding(path: Path) -> str:
    with open_bytes(path) as stream:
        mark = stream.read(2)
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return f"it is UTF-16: write it as UTF-8 first, for example with: iconv -f UTF-16 -t UTF-8 {path}"
    return 'name the true encoding, such as encoding="latin-1" (--read encoding=latin-1)'


def sniff(line: str, path: Path) -> str:
    """Return the separator of a header line."""
    stem = path.name.removesuffix(".gz")
    if stem.endswith((".tsv", ".tab", ".inter", ".user", ".item", ".kg", ".net", ".link")):
        return "\t"
    counts = {s: line.count(s) for s in ("::", "\t", ",", ";", "|")}
    best = max(counts, key=lambda s: counts[s])
    return best if counts[best] else (" " if " " in line.strip() else ",")


def looks_like_header(cells: Sequence[str]) -> bool:
    """Say whether a first line names columns (no cell is a number)."""

    def number(cell: str) -> bool:
        try:
            return bool(np.isfinite(float(cell)))
        except ValueError:
            return False

    return not any(number(cell) for cell in cells)


def _rows(stream: IO[str], separator: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line and its cells; a blank line has none."""
    if len(separator) > 1 or not quoted:
        for number, line in enumerate(stream, 1):
            text = line.rstrip("\r\n")
            yield number, text.split(separator) if text else []
        return
    reader = csv.reader(stream, delimiter=separator)
    for cells in reader:
        yield reader.line_num, cells


def _cells(line: str, separator: str, quoted: bool) -> list[str]:
    if len(separator) > 1 or not quoted:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator))


def _blank_lines(path: Path) -> int:
    """Return how many blank lines stand before the first full one."""
    with open_bytes(path) as stream:
        return next((at for at, line in enumerate(stream) if line.strip()), 0)


def _anything_after_header(stream: IO[bytes], header: bool) -> bool:
    wanted = 2 if header else 1
    block = stream.read(1 << 16)
    lines = [s for s in block.splitlines() if s.strip()]
    return len(lines) >= wanted or len(block) >= 1 << 16
