"""Rows as numbers: every kind of field, the same in training and service, bad values named with their row."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pytest

from palate.data.row_encoder import RowEncoder
from palate.data.row_fields import RowField, check_fields, infer_fields
from palate.data.row_tables import row_blocks
from palate.errors import ConfigError, DataError


def table(**columns) -> pa.Table:
    return pa.table(columns)


def learnt(fields, *tables) -> RowEncoder:
    return RowEncoder.learn(fields, lambda: tables)


COLOURS = table(colour=["red", "blue", "red", None, "green", "red", "blue", ""])


def test_categories_have_codes_by_how_common_they_are() -> None:
    encoder = learnt([RowField("colour", "category")], COLOURS)
    codes = encoder.encode(table(colour=["red", "blue", "green", "pink", None, ""])).codes[:, 0]
    assert codes.tolist() == [3, 4, 5, 2, 1, 1]
    assert [encoder.value_of("colour", code) for code in (1, 2, 3)] == ["missing", "unknown", "red"]
    assert encoder.layout.n_codes == 6


def test_rare_values_share_the_code_of_unknown_ones_and_vocabularies_are_bounded() -> None:
    rare = learnt([RowField("colour", "category", min_count=2)], COLOURS)
    assert rare.encode(table(colour=["red", "blue", "green"])).codes[:, 0].tolist() == [3, 4, 2]
    few = learnt([RowField("colour", "category", max_values=1)], COLOURS)
    assert few.encode(table(colour=["red", "blue"])).codes[:, 0].tolist() == [3, 2]


def test_blocks_are_learnt_as_the_whole() -> None:
    fields = [RowField("colour", "category"), RowField("x", "number"), RowField("y", "bucket", buckets=4)]
    rng = np.random.default_rng(0)
    whole = table(colour=rng.choice(list("abcde"), 1_000), x=rng.normal(3, 2, 1_000), y=rng.exponential(1, 1_000))
    one = learnt(fields, whole)
    parts = learnt(fields, whole.slice(0, 10), whole.slice(10, 700), whole.slice(710, 290))
    a, b = one.encode(whole), parts.encode(whole)
    np.testing.assert_array_equal(a.codes, b.codes)
    np.testing.assert_allclose(a.numbers, b.numbers, atol=1e-5)
    assert abs(a.numbers.mean()) < 1e-5 and abs(a.numbers.std() - 1) < 1e-5
    assert (abs(np.bincount(a.codes[:, 1])[-4:] - 250) <= 1).all()


@pytest.mark.parametrize(
    ("scale", "given", "wanted"),
    [
        ("none", [1.0, 3.0, None], [1, 3, 0]),
        ("minmax", [1.0, 3.0, 9.0, None], [0, 1, 1, 0]),
        ("log2", [1.0, np.e**2, None], [1, 4, 0]),
        ("standard", [2.0, None], [0, 0]),
    ],
)
def test_numbers_by_scale(scale, given, wanted) -> None:
    encoder = learnt([RowField("x", "number", scale=scale)], table(x=[1.0, 3.0, 2.0, None]))
    found = encoder.encode(table(x=pa.array(given, pa.float64()))).numbers[:, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_bags_and_sequences_are_padded_and_sequences_keep_the_last_values() -> None:
    fields = [RowField("tags", "list", max_length=2), RowField("history", "sequence", max_length=2)]
    rows = table(tags=[["a", "b", "c"], [], None, [None, "a"]], history=[["x", "y", "z"], ["y"], [], None])
    encoder = learnt(fields, rows)
    layout, codes = encoder.layout, encoder.encode(rows).codes
    assert layout.bags == {"tags": (0, 2)} and layout.sequences == {"history": (2, 4)}
    assert codes[:, :2].tolist() == [[3, 4], [0, 0], [0, 0], [3, 0]]
    assert [encoder.value_of("history", c) for c in codes[0, 2:]] == ["y", "z"]
    assert codes[1, 2:].tolist()[1] == 0 and codes[2, 2:].tolist() == [0, 0]


def test_a_history_shares_the_codes_of_items() -> None:
    fields = [RowField("item", "category"), RowField("history", "sequence", max_length=3, share="item")]
    encoder = learnt(fields, table(item=["a", "b"], history=[["b"], ["a", "b", "q"]]))
    codes = encoder.encode(table(item=["a", "b"], history=[["b"], ["a", "b", "q"]])).codes
    assert codes[0, 1] == codes[1, 0] and codes[1, 1] == codes[0, 0] and codes[1, 3] == 2
    assert encoder.layout.n_codes == 5


def test_texts_and_hashed_values_have_codes_by_a_hash_that_is_the_same_everywhere() -> None:
    fields = [RowField("who", "category", hash_buckets=7), RowField("title", "text", hash_buckets=11, max_length=4)]
    rows = table(who=["ann", "bob", None], title=["a b a", "b", None])
    encoder = learnt(fields, rows)
    codes = encoder.encode(rows, str.split).codes
    assert codes[:, 0].tolist() == [3 + zlib.crc32(b"ann") % 7, 3 + zlib.crc32(b"bob") % 7, 1]
    base = encoder.layout.bases["title"]
    assert codes[0, 1:].tolist() == [base + 2 + zlib.crc32(b"a") % 11, base + 2 + zlib.crc32(b"b") % 11, 0, 0]
    with pytest.raises(ConfigError, match="splits text"):
        encoder.encode(rows)


@pytest.mark.parametrize("buckets", [0, 13])
def test_crosses_join_values(buckets) -> None:
    fields = [
        RowField("a", "category"),
        RowField("b", "category"),
        RowField("a*b", "cross", of=("a", "b"), hash_buckets=buckets),
    ]
    rows = table(a=["x", "x", "y", None], b=["1", "2", "1", "1"])
    encoder = learnt(fields, rows)
    codes = encoder.encode(rows).codes[:, 2] - encoder.layout.bases["a*b"]
    assert codes[3] == 0 and (codes[:3] >= 2).all()
    if not buckets:
        assert sorted(codes[:3]) == [2, 3, 4]
        assert encoder.value_of("a*b", int(codes[0]) + encoder.layout.bases["a*b"]) == "x & 1"
        assert encoder.encode(table(a=["y"], b=["2"])).codes[0, 2] - encoder.layout.bases["a*b"] == 1


def test_the_state_is_the_encoder() -> None:
    fields = [
        RowField("colour", "category"),
        RowField("n", "category"),
        RowField("x", "number", scale="log"),
        RowField("y", "bucket", buckets=3),
        RowField("tags", "list"),
        RowField("c*n", "cross", of=("colour", "n")),
    ]
    rows = table(colour=["a", "b", None], n=[5, 6, 7], x=[1.0, None, -4.0], y=[1.0, 2.0, 3.0], tags=[["t"], [], ["t", "u"]])
    encoder = learnt(fields, rows)
    again = RowEncoder.of_state(encoder.state())
    assert again.fields == encoder.fields
    odd = table(colour=["b", "z", None], n=[7, 9, None], x=[2.0, 0.0, None], y=[0.0, None, 9.0], tags=[["u", "v"], None, []])
    for given in (rows, odd):
        np.testing.assert_array_equal(encoder.encode(given).codes, again.encode(given).codes)
        np.testing.assert_array_equal(encoder.encode(given).numbers, again.encode(given).numbers)


def test_numbers_and_texts_of_one_id_are_one_value() -> None:
    encoder = learnt([RowField("id", "category")], table(id=[3, 5, 5]))
    assert (
        encoder.encode(table(id=["5", "3", "x"])).codes[:, 0].tolist()
        == encoder.encode(table(id=[5, 3, 8])).codes[:, 0].tolist()
    )


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("number", [1.0, float("inf")], "row 1"),
        ("number", ["a", "b"], "can't be read as numbers"),
        ("bucket", [-float("inf")], "row 0"),
        ("list", ["a"], "no lists"),
        ("sequence", [1], "no lists"),
    ],
)
def test_bad_values_are_named(kind, values, words) -> None:
    with pytest.raises(DataError, match=words):
        learnt([RowField("x", kind)], table(x=values))


def test_a_missing_column_is_named_with_the_nearest() -> None:
    encoder = learnt([RowField("colour", "category")], COLOURS)
    with pytest.raises(DataError, match="colour"):
        encoder.encode(table(color=["red"]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([RowField("a", "ignore")], "no field"),
        ([RowField("a", "category"), RowField("a", "number")], "twice"),
        ([RowField("a", "category"), RowField("c", "cross", of=("a", "b"))], "no such field"),
        ([RowField("a", "number"), RowField("b", "category"), RowField("c", "cross", of=("a", "b"))], "can't be used here"),
        ([RowField("h", "sequence", share="item")], "no such field"),
    ],
)
def test_fields_must_fit_together(fields, words) -> None:
    with pytest.raises(ConfigError, match=words):
        check_fields(fields)


@pytest.mark.parametrize(
    "settings",
    [{"kind": "text"}, {"kind": "cross"}, {"kind": "category", "min_count": 0}, {"kind": "number", "of": ("a", "b")}],
)
def test_fields_are_checked(settings) -> None:
    with pytest.raises(ConfigError, match="field 'x'"):
        RowField("x", **settings)


def test_fields_are_guessed_as_columns_look() -> None:
    rows = table(
        label=[0, 1] * 50,
        user_id=list(range(100)),
        country=["de", "fr"] * 50,
        price=np.linspace(0, 1, 100),
        tags=[["a"]] * 100,
        title=[f"a title of {n}" for n in range(100)],
        sku=[f"S{n}" for n in range(100)],
    )
    found = {f.name: f.kind for f in infer_fields(rows, leave_out=("label",))}
    assert found == {
        "user_id": "category",
        "country": "category",
        "price": "number",
        "tags": "list",
        "title": "text",
        "sku": "category",
    }
    given = infer_fields(rows, known=[RowField("tags", "sequence"), RowField("both", "cross", of=("user_id", "country"))])
    assert {f.name: f.kind for f in given}["tags"] == "sequence" and given[-1].name == "both"
    with pytest.raises(ConfigError, match="no such column"):
        infer_fields(rows, known=[RowField("tag", "sequence")])


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".arrow"])
def test_files_are_read_in_blocks(suffix, tmp_path) -> None:
    import pyarrow.csv as csv
    import pyarrow.feather as feather
    import pyarrow.parquet as pq

    rows = table(a=list(range(100)), b=[f"v{n}" for n in range(100)])
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        pq.write_table(rows, path)
    elif suffix == ".arrow":
        feather.write_feather(rows, str(path), compression="uncompressed")
    else:
        csv.write_csv(rows, path, csv.WriteOptions(delimiter="\t" if suffix == ".tsv" else ","))
    blocks = list(row_blocks(path, block=32)())
    assert sum(b.num_rows for b in blocks) == 100 and max(b.num_rows for b in blocks) <= 100
    assert pa.concat_tables(blocks).column("a").to_pylist() == list(range(100))


def test_sources_that_are_none_are_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no such file"):
        row_blocks(tmp_path / "none.parquet")
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(DataError, match="one kind"):
        row_blocks(tmp_path / "x.bin")
    (tmp_path / "x.parquet").write_bytes(b"x")
    with pytest.raises(DataError, match="can't be read"):
        list(row_blocks(tmp_path / "x.parquet")())
    with pytest.raises(DataError, match="can't be read from this"):
        row_blocks(5)
