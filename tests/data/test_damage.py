"""Damaged files: whatever happens to the bytes of a source, reading gives sound data or one of our errors, never a crash."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from palate.data.dataset import Dataset
from palate.data.protocols import split
from palate.data.readers import read, read_parts
from palate.data.split_files import read_split, write_split
from palate.data.trec import read_qrels, read_run, write_qrels, write_run
from palate.data.writers import write_parquet, write_recbole
from palate.errors import PalateError
from palate.simulate.world import World

# Arrow can't show a ragged line that is no UTF-8 to our handler; it complains on the side, and reading fails as it should.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ROWS = [(n * 7 % 6, n * 5 % 9, 1_600_000_000 + n * 50, 1 + n % 5) for n in range(25)]
TABLE = pa.table({name: [row[at] for row in ROWS] for at, name in enumerate(("user", "item", "time", "rating"))})

#: What people and programs put into files by mistake.
WORDS = [
    b'"', b",", b"\n", b"\r", b"\r\n", b"\t", b"::", b" ", b"", b"\\", b"'", b"{", b"}", b"[1]", b"null", b"true", b"nan",
    b"inf", b"-1", b"1.5", b"1e400", b"9" * 23, b"9223372036854775807", b"2020-13-45", b"\xff", b"\x00", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
]  # fmt: skip


def _lines(separator: str, header: str = "") -> bytes:
    return (header + "".join(separator.join(map(str, row)) + "\n" for row in ROWS)).encode()


def _arrow() -> bytes:
    stream = io.BytesIO()
    with pa.ipc.new_file(stream, TABLE.schema) as writer:
        writer.write_table(TABLE.set_column(1, "item", TABLE["item"].cast(pa.string())).cast(TABLE.schema))
    return stream.getvalue()


def _parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(TABLE, stream)
    return stream.getvalue()


def _notes() -> bytes:
    cells = (f'{u},"i {i}",2020-01-{1 + n:02d} 10:00:00,"a ""q"" {v}"\n' for n, (u, i, _, v) in enumerate(ROWS))
    return ("user,item,time,note\n" + "".join(cells)).encode()


FILES = {
    "e.csv": _lines(",", "user,item,time,rating\n"),
    "notes.csv": _notes(),
    "e.tsv": _lines("\t", "user\titem\ttime\trating\n"),
    "e.inter": _lines("\t", "user_id:token\titem_id:token\ttimestamp:float\trating:float\n"),
    "e.jsonl": "".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()).encode(),
    "sequences.txt": _lines(" "),
    "ratings.dat": _lines("::"),
    "e.parquet": _parquet(),
    "e.arrow": _arrow(),
}


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Draw one to three edits: words put in, bytes taken out, an end cut off."""
    edits = draw(
        st.lists(
            st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(WORDS), st.sampled_from([False] * 9 + [True])),
            min_size=1,
            max_size=3,
        )
    )

    def damage(whole: bytes) -> bytes:
        for place, length, word, cut in edits:
            at = int(place * len(whole))
            whole = whole[:at] if cut else whole[:at] + word + whole[at + length :]
        return whole

    return damage


def _is_sound(data: Dataset) -> bool:
    events = data.interactions
    sides = ((events.user, data.n_users), (events.item, data.n_items))
    return len(events) > 0 and all(numbers.min() >= 0 and numbers.max() < n for numbers, n in sides)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages(), on_bad_rows=st.sampled_from(["error", "drop"]))
def test_a_damaged_file(name: str, damage: Callable[[bytes], bytes], on_bad_rows: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    path.unlink(missing_ok=True)
    path.write_bytes(damage(FILES[name]))
    try:
        data = read(path, on_bad_rows=on_bad_rows)
    except PalateError as error:
        assert error.what and error.remedy and (error.where or error.value)
    else:
        assert _is_sound(data)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole folders and files of every kind that we write."""
    base = tmp_path_factory.mktemp("whole")
    data = World(users=30, items=20, events=300).dataset()
    write_parquet(data, base / "own")
    write_recbole(data, base / "recbole")
    write_split(split(data, "global_time"), base / "split")
    write_run(base / "run", [1, 2], [[3, 4], [5, 6]], [[0.5, 0.4], [0.3, 0.2]])
    write_qrels(base / "qrels", [1, 2], [[3], [5]])
    (base / "movielens").mkdir()
    (base / "movielens" / "ratings.dat").write_bytes(FILES["ratings.dat"])
    (base / "movielens" / "movies.dat").write_text("".join(f"{i}::Film {i} (1999)::Action|Drama\n" for i in range(9)))
    (base / "movielens" / "users.dat").write_text("".join(f"{u}::F::{20 + u}::{u}::0{u}\n" for u in range(6)))
    return base


SOURCES: dict[str, Callable[..., Any]] = {
    "own": read,
    "recbole": read,
    "movielens": read,
    "split": read_split,
    "run": read_run,
    "qrels": read_qrels,
}


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages(), which=st.integers(0, 30))
def test_a_damaged_folder(name: str, damage: Callable[[bytes], bytes], which: int, folders: Path, tmp_path: Path) -> None:
    copy = tmp_path / name
    if copy.is_dir():
        shutil.rmtree(copy)
    if (folders / name).is_dir():
        shutil.copytree(folders / name, copy)
        files = sorted(copy.iterdir())
        path = files[which % len(files)]
    else:
        path = copy
    path.unlink(missing_ok=True)
    path.write_bytes(damage((folders / path.relative_to(tmp_path)).read_bytes()))
    for reader in (SOURCES[name], read_parts) if name == "split" else (SOURCES[name],):
        try:
            reader(copy)
        except PalateError as error:
            assert error.what and error.remedy
