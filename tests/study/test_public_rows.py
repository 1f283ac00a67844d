"""Public rows from made-up files of the same form."""

import gzip

import pytest

from palate.errors import DataError
from palate.study.public_rows import FRAPPE, frappe, movielens_seven, parts_of


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PALATE_DATA", str(tmp_path))
    monkeypatch.setattr("palate.study.public_rows.cache_folder", lambda: tmp_path / "none")
    return tmp_path


def test_frappe(home):
    with pytest.raises(DataError, match="Frappe is not here"):
        frappe()
    (home / "frappe").mkdir()
    for part, label in (("validation", -1), ("test", 1)):
        with gzip.open(home / "frappe" / f"frappe.{part}.libfm.gz", "wt") as file:
            file.write(" ".join([str(label), *(f"{10 + at}:1" for at in range(10))]) + "\n")
    table, fields = frappe()
    assert table.column("label").to_pylist() == [0.0, 1.0]
    assert tuple(f.name for f in fields) == FRAPPE
    assert table.column("city").to_pylist() == ["19", "19"]


def test_seven_fields_of_movielens(home):
    folder = home / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::7::5::100\n1::8::3::200\n2::8::1::300\n2::9::4::400\n")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-01\n")
    (folder / "movies.dat").write_text("7::Old One (1954)::Drama\n8::New (One) (1999)::Action|Comedy\n9::No Year::War\n")
    table, fields = movielens_seven()
    assert [f.name for f in fields] == ["gender", "age", "occupation", "zip", "year", "genres", "time"]
    assert "user" not in table.column_names
    rows = table.to_pylist()
    assert [r["label"] for r in rows] == [1.0, 0.0, 1.0]
    assert rows[0] == {
        "gender": "F", "age": "1", "occupation": "10", "zip": "48067", "year": "1950s",
        "genres": ["Drama"], "time": 100.0, "label": 1.0,
    }  # fmt: skip
    assert [r["year"] for r in rows] == ["1950s", "1999", None]
    assert rows[1]["genres"] == ["Action", "Comedy"]


def test_parts_hold_every_row_once(home):
    import pyarrow as pa

    table = pa.table({"x": list(range(100)), "label": [0.0, 1.0] * 50})
    parts = parts_of(table, {"train": 0.7, "valid": 0.1, "test": 0.2})
    assert [len(p) for p in parts.values()] == [70, 10, 20]
    assert sorted(v for p in parts.values() for v in p.features.column("x").to_pylist()) == list(range(100))
    again, other = (parts_of(table, {"all": 1.0}, seed=s)["all"].features.column("x").to_pylist() for s in (0, 1))
    assert again != other
