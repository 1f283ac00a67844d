"""Readers of tables: every form of the same events gives the same data set."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from palate.data.dataset import Dataset
from palate.data.interactions import Interactions
from palate.data.readers import read
from palate.data.readers.order import assemble
from palate.data.readers.roles import resolve
from palate.errors import DataError

USER = [5, 3, 5, 3, 9, 5]
ITEM = ["b", "a", "a", "b", "c", "b"]
TIME = [30, 10, 20, 10, 50, 20]
RATING = [1.0, 2.5, 3.0, 4.0, 5.0, 0.5]
FRAME = pl.DataFrame({"userId": USER, "movieId": ITEM, "ts": TIME, "rating": RATING})


def expected() -> Dataset:
    return Dataset.from_columns(USER, ITEM, time=TIME, value=RATING)


def save(folder, kind):
    path = folder / f"events.{kind}"
    text = FRAME.write_csv()
    lines = "".join(json.dumps(row) + "\n" for row in FRAME.to_dicts())
    forms = {
        "csv": text.encode(),
        "csv.gz": gzip.compress(text.encode()),
        "tsv": text.replace(",", "\t").encode(),
        "tsv.gz": gzip.compress(text.replace(",", "\t").encode()),
        "txt": text.replace(",", ";").encode(),
        "dat": text.replace(",", "::").encode(),
        "jsonl": lines.encode(),
        "jsonl.gz": gzip.compress(lines.encode()),
        "ndjson": lines.encode(),
        "unknown": text.replace(",", "|").encode(),
    }
    if kind in forms:
        path.write_bytes(forms[kind])
    elif kind == "parquet":
        FRAME.write_parquet(path, row_group_size=2)
    elif kind in ("arrow", "feather"):
        FRAME.write_ipc(path)
    else:
        FRAME.write_ipc_stream(path)
    return path


def assert_same(left: Dataset, right: Dataset) -> None:
    assert left.users.ids == right.users.ids
    assert left.items.ids == right.items.ids
    one, other = left.interactions.columns, right.interactions.columns
    assert one.keys() == other.keys()
    for name, column in one.items():
        np.testing.assert_array_equal(column, other[name], err_msg=name)
        assert column.dtype == other[name].dtype


@pytest.mark.parametrize(
    "kind",
    [
        "csv",
        "csv.gz",
        "tsv",
        "tsv.gz",
        "txt",
        "dat",
        "jsonl",
        "jsonl.gz",
        "ndjson",
        "unknown",
        "parquet",
        "arrow",
        "feather",
        "ipc",
    ],
)
def test_every_file_form_gives_the_same(tmp_path, kind):
    data = read(save(tmp_path, kind))
    assert_same(data, expected())
    assert data.fingerprint == expected().fingerprint
    assert data.name == "events"


@pytest.mark.parametrize("make", [lambda f: f, lambda f: f.lazy(), lambda f: f.to_pandas(), lambda f: f.to_arrow()])
def test_every_frame_gives_the_same(make):
    assert_same(read(make(FRAME)), expected())


def test_byte_order_mark_and_windows_lines(tmp_path):
    path = tmp_path / "e.csv"
    path.write_bytes(b"\xef\xbb\xbf" + FRAME.write_csv().replace("\n", "\r\n").encode())
    assert_same(read(path), expected())


@pytest.mark.parametrize("name", ["e.csv", "e.csv.gz"])
def test_blank_lines_before_the_header_and_between_rows(tmp_path, name):
    text = "\n \r\n\nuser,item,time\nann,x,1\n\nben,y,2\n"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    data = read(tmp_path / name)
    assert data.users.ids.raw.to_pylist() == ["ann", "ben"]
    (tmp_path / "f.csv").write_text(text + "ann,z,soon\n")
    with pytest.raises(DataError, match="line 8"):
        read(tmp_path / "f.csv")


def test_blanks_after_commas_do_not_count(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text(FRAME.write_csv().replace(",", ", "))
    assert_same(read(path), expected())


def test_equal_times_keep_file_order():
    events = read(FRAME).interactions
    assert events.file_order.tolist() == [2, 5, 0, 1, 3, 4]
    assert events.item.tolist() == [1, 0, 0, 1, 0, 2]


def test_without_times_file_order_rules(tmp_path):
    data = read(FRAME.drop("ts"))
    assert data.interactions.time is None
    assert data.histories.ragged.tolist() == [[0, 1, 0], [1, 0], [2]]


def test_spec_records_source_columns_and_time(tmp_path):
    path = save(tmp_path, "csv")
    step = read(path).spec[0]
    assert step["source"] == [str(path)]
    assert step["columns"] == {"user": "userId", "item": "movieId", "time": "ts", "value": "rating"}
    assert step["time"] == {"column": "ts", "unit": "s", "form": "numbers"}
    assert (step["rows"], step["rows_dropped"]) == (6, 0)


@pytest.mark.parametrize(
    ("found", "roles"),
    [
        (
            ["visitorid", "itemid", "event", "timestamp"],
            {"user": "visitorid", "item": "itemid", "action": "event", "time": "timestamp"},
        ),
        (["reviewerID", "asin", "overall", "unixReviewTime"], {"user": "reviewerID", "item": "asin", "value": "overall"}),
        (
            ["rating", "user_id", "asin", "parent_asin", "timestamp"],
            {"user": "user_id", "item": "parent_asin", "value": "rating"},
        ),
        (["user_id:token", "item_id:token", "rating:float"], {"user": "user_id:token", "item": "item_id:token"}),
        (["User ID", "Product-Id", "Date"], {"user": "User ID", "item": "Product-Id", "time": "Date"}),
        (["session_id", "item_id", "ts"], {"user": "session_id", "session": "session_id", "item": "item_id", "time": "ts"}),
        (["uid", "iid", "rating", "weight"], {"user": "uid", "item": "iid", "value": "rating"}),
    ],
)
def test_roles_by_name(found, roles):
    resolved = resolve(found, None, "here")
    assert {role: resolved[role] for role in roles} == roles


def test_roles_given_win_and_can_be_left_out():
    frame = pl.DataFrame({"user": [1, 2], "item": [3, 4], "buyer": ["x", "y"], "rating": [1, 2], "stars": [3, 4]})
    data = read(frame, columns={"user": "buyer", "value": "stars"})
    assert data.users.ids.raw.to_pylist() == ["x", "y"]
    assert data.interactions.value.tolist() == [3, 4]
    assert read(frame, columns={"value": ""}).interactions.value is None


SECONDS = [1_700_000_000, 1_600_000_000, 1_650_000_000]


@pytest.mark.parametrize(
    ("times", "unit", "form"),
    [
        (SECONDS, "s", "numbers"),
        ([t * 10**3 for t in SECONDS], "ms", "numbers"),
        ([t * 10**6 for t in SECONDS], "us", "numbers"),
        ([t * 10**9 for t in SECONDS], "ns", "numbers"),
        ([float(t) for t in SECONDS], "s", "numbers"),
        (["2023-11-14T22:13:20", "2020-09-13T12:26:40", "2022-04-15T05:20:00"], "us", "text"),
        (["2023-11-14 22:13:20+00:00", "2020-09-13 14:26:40+02:00", "2022-04-15T05:20:00Z"], "us", "text"),
        (["2023/11/14 22:13:20", "2020/09/13 12:26:40", "2022/04/15 05:20:00"], "us", "text"),
    ],
)
def test_time_forms(tmp_path, times, unit, form):
    frame = pl.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "time": times})
    path = tmp_path / "e.csv"
    frame.write_csv(path)
    for source in (frame, path):
        data = read(source)
        assert data.interactions.time.tolist() == SECONDS
        assert data.spec[0]["time"] == {"column": "time", "unit": unit, "form": form}


def test_time_types_of_arrow():
    days = pl.Series(SECONDS).cast(pl.Int64) * 1000
    frame = pl.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "time": days.cast(pl.Datetime("ms"))})
    assert read(frame).interactions.time.tolist() == SECONDS
    assert read(frame.with_columns(pl.col("time").dt.replace_time_zone("UTC"))).interactions.time.tolist() == SECONDS
    assert read(frame.with_columns(pl.col("time").dt.date())).interactions.time.tolist() == [
        t // 86_400 * 86_400 for t in SECONDS
    ]
    assert read(frame.to_pandas()).interactions.time.tolist() == SECONDS


def test_dates_as_text():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "date": ["1970-01-02", "06 17, 2018"]})
    assert read(frame).interactions.time.tolist() == [86_400, 1_529_193_600]


def test_time_unit_can_be_given():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "time": [5000, 7999]})
    assert read(frame).interactions.time.tolist() == [5000, 7999]
    assert read(frame, time_unit="ms").interactions.time.tolist() == [5, 7]


@pytest.mark.parametrize("scale", ["ms", "float"])
def test_times_finer_than_a_second_keep_their_order(scale):
    moments = [1_700_000_000_900, 1_700_000_000_100, 1_700_000_000_500]
    times = moments if scale == "ms" else [m / 1000 for m in moments]
    frame = pl.DataFrame({"user": [1, 1, 2], "item": ["x", "y", "z"], "time": times})
    data = read(frame)
    assert data.interactions.time.tolist() == [1_700_000_000] * 3
    assert data.items.ids.decode(data.histories.items).to_pylist() == ["y", "x", "z"]
    assert data.interactions.file_order.tolist() == [0, 2, 1]
    assert data.items.ids.decode(data.interactions.item[data.interactions.time_order]).to_pylist() == ["y", "z", "x"]


def test_times_before_1970():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "time": ["1969-12-31T23:59:59.5", "1960-01-01"]})
    assert read(frame).interactions.time.tolist() == [-1, -315_619_200]


def test_actions_and_sessions_are_numbered():
    frame = pl.DataFrame({"user": [1, 2, 1], "item": [1, 2, 3], "event": ["view", "buy", "view"], "session": [70, 80, 70]})
    data = read(frame)
    assert data.interactions.action.tolist() == [0, 0, 1]
    assert data.actions.raw.to_pylist() == ["view", "buy"]
    assert data.sessions.raw.to_pylist() == [70, 80]
    assert data.interactions.session.tolist() == [0, 0, 1]


def test_boolean_and_decimal_values():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "label": [True, False]})
    assert read(frame).interactions.value.tolist() == [1, 0]
    frame = frame.with_columns(label=pl.Series(["1.25", "3"]).cast(pl.Decimal(scale=2)))
    assert read(frame).interactions.value.tolist() == [1.25, 3]


def test_text_ids_of_typed_sources_stay_text():
    frame = pl.DataFrame({"user": ["1", "2"], "item": [1, 2]})
    assert read(frame).users.ids.raw.to_pylist() == ["1", "2"]
    assert read(frame, ids="integer").users.ids.raw.to_pylist() == [1, 2]
    assert read(frame.with_columns(pl.col("user").cast(pl.Categorical))).users.ids.raw.to_pylist() == ["1", "2"]


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.coo_array, sparse.csc_matrix])
def test_scipy_matrix_keeps_its_numbers(make):
    dense = np.array([[0, 2, 0], [0, 0, 0], [3, 0, 1]], np.float32)
    data = read(make(dense))
    assert (data.n_users, data.n_items) == (3, 3)
    assert data.users.ids.raw.to_pylist() == [0, 1, 2]
    np.testing.assert_array_equal(data.matrix(values=True).toarray(), dense)


def test_json_lines_with_late_changes(tmp_path):
    rows = [{"user": "u", "item": n, "rating": 1} for n in range(2000)] + [{"user": "v", "item": 7, "rating": 1.5, "more": [1]}]
    path = tmp_path / "e.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows) + "\n\n")
    data = read(path)
    assert len(data) == 2001
    assert data.interactions.value[-1] == 1.5


def test_many_batches_give_what_one_gives(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    frame = pl.DataFrame({"user": rng.integers(0, 300, 5000), "item": [f"i{n}" for n in rng.integers(0, 900, 5000)]})
    frame = frame.with_columns(time=pl.Series(rng.integers(0, 100, 5000)))
    frame.write_parquet(tmp_path / "e.parquet", row_group_size=700)
    frame.write_csv(tmp_path / "e.csv")
    for name in ("source.BATCH_ROWS", "order.BLOCK"):
        monkeypatch.setattr(f"palate.data.readers.{name}", 64)
    monkeypatch.setattr("palate.data.readers.delimited.BLOCK_BYTES", 1 << 12)
    columns = frame.to_dict(as_series=False)
    whole = Dataset.from_columns(columns["user"], columns["item"], time=columns["time"])
    for source in (frame, tmp_path / "e.parquet", tmp_path / "e.csv"):
        assert_same(read(source), whole)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(-3, 3)), min_size=1, max_size=50), st.integers(1, 7)
)
@settings(max_examples=100, deadline=None)
def test_assemble_equals_plain_sort(rows, block):
    import palate.data.readers.order as order

    user, item, time = (np.array(c) for c in zip(*rows, strict=True))
    plain = Interactions.sorted(user, item, time=time)
    before, order.BLOCK = order.BLOCK, block
    try:
        columns = {"user": user.astype(np.int32), "item": item.astype(np.int32), "time": time.astype(np.int64)}
        made = assemble(columns, 5)
    finally:
        order.BLOCK = before
    for name, column in plain.columns.items():
        np.testing.assert_array_equal(column, getattr(made, name))
    assert (made.row is None) == (plain.row is None)


MEMORY = """
import sys
import polars, scipy.sparse
from palate.data.readers import read

def memory(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

read(sys.argv[1])
before = memory("VmRSS")
data = read(sys.argv[2])
print(memory("VmHWM") - before, len(data))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_large_parquet_file(tmp_path):
    rng = np.random.default_rng(0)
    n = 2_000_000
    columns = {
        "user": rng.integers(0, 50_000, n),
        "item": rng.integers(0, 9_000, n),
        "rating": rng.integers(1, 6, n).astype(float),
    }
    pq.write_table(pa.table({**columns, "time": rng.integers(10**9, 2 * 10**9, n)}), tmp_path / "big.parquet")
    pq.write_table(pa.table({"user": [1, 2], "item": [3, 4]}), tmp_path / "small.parquet")
    out = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "small.parquet", tmp_path / "big.parquet"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    own, rows = map(int, out.split())
    assert rows == n
    fixed = 60e6  # decoding buffers, of one size for any file
    assert own < 3 * (tmp_path / "big.parquet").stat().st_size + fixed


def test_pandas_index_and_extra_columns_do_not_matter():
    frame = pd.DataFrame({"user": [1, 2], "item": [3, 4], "misc": [object(), {}]}, index=["a", "b"])
    assert len(read(frame)) == 2
