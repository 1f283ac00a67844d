"""Every kind of bad input is refused with file, place, value and remedy; rows are dropped only when asked, and counted."""

import gzip
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from palate.data.readers import read, rows_dropped
from palate.errors import ConfigError, DataError

GOOD = "user,item,time,rating\n1,10,100,5\n2,11,200,4\n1,12,300,3\n"


def write(folder, text, name="events.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(source, **options):
    with pytest.raises(DataError) as caught:
        read(source, **options)
    return caught.value


def test_missing_file_names_path_and_remedy(tmp_path):
    error = refused(tmp_path / "nothing.csv")
    assert "nothing.csv" in str(error)
    assert error.remedy


def test_unknown_public_name_is_an_error():
    assert "no such" in refused("ml-100kk").what


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "sequences.txt", "a.inter", "a.parquet", "a.arrow"])
def test_empty_file(tmp_path, name):
    error = refused(write(tmp_path, "", name))
    assert name in str(error.where)
    assert error.remedy


def test_empty_folder(tmp_path):
    assert "empty" in refused(tmp_path).what


def test_header_only(tmp_path):
    error = refused(write(tmp_path, "user,item,time\n"))
    assert "only a header" in error.what
    assert "events.csv" in error.where


def test_header_only_parquet(tmp_path):
    pq.write_table(pa.table({"user": pa.array([], pa.int64()), "item": pa.array([], pa.int64())}), tmp_path / "e.parquet")
    assert "no rows" in refused(tmp_path / "e.parquet").what


def test_wrong_column_lists_those_found(tmp_path):
    error = refused(write(tmp_path, "who,what\n1,2\n3,4\n"))
    assert error.value == ["who", "what"]
    assert "columns=" in error.remedy
    error = refused(write(tmp_path, GOOD), columns={"user": "usr"})
    assert error.value == "usr"
    assert "'user'" in error.remedy


def test_unknown_role_and_option_and_format(tmp_path):
    path = write(tmp_path, GOOD)
    with pytest.raises(ConfigError, match="role"):
        read(path, columns={"usr": "user"})
    with pytest.raises(ConfigError, match="option"):
        read(path, encodng="latin-1")
    with pytest.raises(ConfigError, match="format"):
        read(path, format="cvs")
    with pytest.raises(ConfigError, match="on_bad_rows"):
        read(path, on_bad_rows="ignore")
    for option in (
        {"min_users": "many"},
        {"header": "no"},
        {"separator": 1},
        {"encoding": "latin-9000"},
        {"encoding": "utf-16"},
    ):
        with pytest.raises(ConfigError, match=next(iter(option))) as caught:
            read(path, **option)
        assert caught.value.value == next(iter(option.values()))
        assert caught.value.remedy


def test_ambiguous_columns_name_the_choices(tmp_path):
    error = refused(write(tmp_path, "user_id,userId,item\n1,1,2\n2,2,3\n"))
    assert "several columns look like the user: user_id, userId" in error.what
    assert "columns={'user': 'user_id'}" in error.remedy


def test_duplicate_columns(tmp_path):
    assert refused(write(tmp_path, "user,item,user\n1,2,3\n2,3,4\n")).value == ["user"]
    frame = pd.DataFrame([[1, 2, 3], [2, 3, 4]], columns=["user", "item", "user"])
    assert refused(frame).value == ["user"]


@pytest.mark.parametrize(
    ("row", "reason", "value"),
    [
        ("1,12,yesterday,3", "time", "yesterday"),
        ("1,12,,3", "time", None),
        ("1,12,nan,3", "time", "nan"),
        ("1,12,inf,3", "time", "inf"),
        ("1,12,1700000000000,3", "does not fit the unit 's'", 1_700_000_000_000),
        ("abc,12,300,3", "mixed id types", "abc"),
        ("1.5,12,300,3", "mixed id types", "1.5"),
        ("1,x,300,3", "mixed id types", "x"),
        (",12,300,3", "missing id", None),
        ("NaN,12,300,3", "missing id", None),
        ("null,12,300,3", "missing id", None),
        ("-4,12,300,3", "negative id", -4),
        ("99999999999999999999,12,300,3", "beyond 64 bits", "99999999999999999999"),
        ("1,12,300,nan", "not a finite number", "nan"),
        ("1,12,300,inf", "not a finite number", "inf"),
        ("1,12,300,good", "not a finite number", "good"),
        ("1,12,300", "ragged line", "1,12,300"),
        ("1,12,300,3,7", "ragged line", "1,12,300,3,7"),
    ],
)
def test_bad_row_is_named_or_dropped(tmp_path, row, reason, value):
    path = write(tmp_path, GOOD + "\n" + row + "\n3,12,400,2\n")
    error = refused(path)
    assert reason in str(error)
    assert error.where == f"{path}, line 6"
    assert value is None or error.value == value
    assert error.remedy
    data = read(path, on_bad_rows="drop")
    assert len(data) == 4
    assert sum(rows_dropped(data).values()) == 1
    assert data.spec[0]["rows_dropped"] == 1
    assert data.users.ids.raw.to_pylist() == [1, 2, 3]
    assert data.items.ids.raw.to_pylist() == [10, 11, 12]
    assert data.interactions.item.max() == 2


def test_line_number_counts_quoted_breaks(tmp_path):
    path = write(tmp_path, 'user,item,note,time\n1,2,"two\nlines",5\n2,3,x,6\n3,4,y,soon\n')
    assert refused(path).where == f"{path}, line 5"


def test_clean_data_drop_nothing(tmp_path):
    data = read(write(tmp_path, GOOD), on_bad_rows="drop")
    assert rows_dropped(data) == {}
    assert data.spec[0]["rows_dropped"] == 0


def test_a_row_bad_twice_counts_once(tmp_path):
    data = read(write(tmp_path, GOOD + ",12,soon,nan\n"), on_bad_rows="drop")
    assert sum(rows_dropped(data).values()) == 1


def test_nothing_left_after_dropping(tmp_path):
    assert "no row is left" in refused(write(tmp_path, "user,item\n,1\n,2\n"), on_bad_rows="drop").what


def test_one_user(tmp_path):
    path = write(tmp_path, "user,item\n7,1\n7,2\n")
    error = refused(path)
    assert "only one user" in error.what
    assert error.value == 7
    assert len(read(path, min_users=1)) == 2


def test_ids_as_text_take_anything(tmp_path):
    path = write(tmp_path, "user,item\n1,10\n2,x9\n-3,99999999999999999999\nabc,4\n")
    data = read(path, ids="text")
    assert data.users.ids.raw.to_pylist() == ["1", "2", "-3", "abc"]


def test_codes_that_are_mostly_text_stay_text(tmp_path):
    data = read(write(tmp_path, "user,item\n1,B00A\n2,B00B\n3,1881509818\n"))
    assert data.items.ids.raw.to_pylist() == ["B00A", "B00B", "1881509818"]
    assert data.users.ids.raw.type == pa.int64()


def test_leading_zeros_make_text(tmp_path):
    data = read(write(tmp_path, "user,item\n007,1\n012,2\n"))
    assert data.users.ids.raw.to_pylist() == ["007", "012"]


@pytest.mark.parametrize("name", ["e.csv.gz", "e.jsonl.gz", "sequences.txt.gz", "e.inter.gz"])
def test_truncated_gzip(tmp_path, name):
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 10**6, (20_000, 2))
    lines = {
        "e.csv.gz": "user,item\n" + "".join(f"{u},{i}\n" for u, i in pairs),
        "e.jsonl.gz": "".join(json.dumps({"user": int(u), "item": int(i)}) + "\n" for u, i in pairs),
        "sequences.txt.gz": "".join(f"{u} {i}\n" for u, i in pairs),
        "e.inter.gz": "user_id:token\titem_id:token\n" + "".join(f"{u}\t{i}\n" for u, i in pairs),
    }
    packed = gzip.compress(lines[name].encode())
    error = refused(write(tmp_path, packed[: len(packed) // 2], name))
    assert "cut short" in error.what
    assert "gzip -t" in error.remedy
    assert len(read(write(tmp_path, packed, name))) == 20_000


def test_truncated_gzip_is_an_error_even_when_dropping(tmp_path):
    packed = gzip.compress(("user,item\n" + "".join(f"{n},{n * 7}\n" for n in range(50_000))).encode())
    assert "cut short" in refused(write(tmp_path, packed[:-5000], "e.csv.gz"), on_bad_rows="drop").what


def test_truncated_parquet_and_arrow(tmp_path):
    table = pa.table({"user": np.arange(1000), "item": np.arange(1000)})
    pq.write_table(table, tmp_path / "e.parquet")
    whole = (tmp_path / "e.parquet").read_bytes()
    assert "whole Parquet file" in refused(write(tmp_path, whole[:-100], "f.parquet")).what
    damaged = bytearray(whole)
    damaged[200:1200] = b"\xff" * 1000
    refused(write(tmp_path, bytes(damaged), "g.parquet"))
    pl.from_arrow(table).write_ipc(tmp_path / "e.arrow")
    assert "whole Arrow file" in refused(write(tmp_path, (tmp_path / "e.arrow").read_bytes()[:400], "f.arrow")).what


def test_wrong_encoding_names_line_and_remedy(tmp_path):
    text = "user,item\nann,Amelie\nben,Amélie\n".encode("latin-1")
    path = write(tmp_path, text)
    error = refused(path)
    assert error.where.startswith(f"{path}, line 3, byte")
    assert b"Am\xe9lie" in error.value
    assert "latin-1" in error.remedy
    assert read(path, encoding="latin-1").items.ids.raw.to_pylist() == ["Amelie", "Amélie"]


def test_utf_16_is_told_by_its_mark(tmp_path):
    assert "iconv -f UTF-16" in refused(write(tmp_path, GOOD.encode("utf-16"))).remedy


def test_wrong_encoding_in_other_forms(tmp_path):
    assert "line 2" in refused(write(tmp_path, b'{"user": "a", "item": "b"}\n{"user": "\xe9", "item": "c"}\n', "e.jsonl")).where
    assert "line 2" in refused(write(tmp_path, b"ann b c\n\xe9 d e\n", "sequences.txt")).where


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize(
    ("line", "reason", "value"),
    [
        ('{"user": 1, "item": ', "not a JSON object", None),
        ("[1, 2]", "not a JSON object", None),
        ("null", "not a JSON object", "null"),
        ('{"user": 1, "item": 2, "time": 3} {"user": 2, "item": 3, "time": 4}', "not a JSON object", None),
        ('{"user": "x", "item": 2, "time": 5}', "mixed types in field 'user'", "x"),
        ('{"user": 99999999999999999999, "item": 2, "time": 5}', "beyond 64 bits", 99999999999999999999),
        ('{"user": 3, "time": 5}', "missing id", None),
        ('{"user": 3, "item": null, "time": 5}', "missing id", None),
        ('{"user": -3, "item": 2, "time": 5}', "negative id", -3),
        ('{"user": 3, "item": 2}', "time", None),
    ],
)
def test_bad_json_line(tmp_path, line, reason, value, far):
    n = 1500 if far else 5
    good = "".join(json.dumps({"user": u, "item": u * 3, "time": u}) + "\n" for u in range(n))
    path = write(tmp_path, good + line + "\n" + '{"user": 1, "item": 2, "time": 9}\n', "e.jsonl")
    error = refused(path)
    assert reason in str(error)
    assert error.where == f"{path}, line {n + 1}"
    assert value is None or error.value == value
    data = read(path, on_bad_rows="drop")
    assert len(data) == n + 1
    assert sum(rows_dropped(data).values()) == 1


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("user", [1, "a", 2], "mixed"),
        ("user", [1.0, float("nan"), 2.0], "missing id"),
        ("user", [1.0, float("inf"), 2.0], "not a whole number"),
        ("user", [1, -2, 3], "negative"),
        ("user", [1, 2**64, 3], "beyond 64 bits"),
        ("user", np.array([1, 2**63 + 5, 3], np.uint64), "beyond 64 bits"),
        ("user", ["a", None, "b"], "missing id"),
        ("user", [1.0, 2.5, 3.0], "not a whole number"),
        ("rating", [1.0, float("nan"), 2.0], "not a finite number"),
        ("time", ["2024-01-01", "today", "2024-01-03"], "time"),
    ],
)
def test_bad_pandas_column(column, values, reason):
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [4, 5, 6], "rating": [1.0, 2.0, 3.0], "time": [1, 2, 3]})
    frame[column] = values
    error = refused(frame)
    assert reason in str(error)
    assert "row 2" in str(error.where)
    data = read(frame, on_bad_rows="drop")
    assert len(data) == 2
    assert data.spec[0]["rows_dropped"] == 1


def test_ids_of_a_wrong_kind():
    frame = pl.DataFrame({"user": [[1], [2]], "item": [1, 2]})
    assert "not an id" in refused(frame).what
    with pytest.raises(DataError, match="can't be read"):
        read({"user": [1]})


def test_headless_file_asks_for_columns(tmp_path):
    path = write(tmp_path, "1,2,3\n2,3,4\n")
    assert refused(path).value == ["0", "1", "2"]
    data = read(path, columns={"user": "0", "item": "1", "value": "2"})
    assert data.interactions.value.tolist() == [3, 4]


def test_user_without_items(tmp_path):
    path = write(tmp_path, "1 5 6\n2\n3 5\n", "sequences.txt")
    assert refused(path).where == f"{path}, line 2"
    assert rows_dropped(read(path, on_bad_rows="drop")) == {"user without items": 1}


def test_recbole_header_needs_types(tmp_path):
    path = write(tmp_path, "user_id\titem_id\n1\t2\n", "x.inter")
    error = refused(path)
    assert error.where == f"{path}, line 1"
    assert "token" in error.remedy
