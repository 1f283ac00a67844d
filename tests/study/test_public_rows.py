"""Public rows from made-up files of the same form."""

import gzip

import pytest

from palate.data.dataset import Dataset
from palate.data.readers import read
from palate.errors import DataError
from palate.study.public_rows import (
    FRAPPE,
    frappe,
    movielens_likes,
    movielens_people,
    movielens_seven,
    movielens_told,
    open_bandit_clicks,
    parts_of,
)


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
    assert movielens_people().tolist() == [1, 2, 2]


def test_movielens_100k_has_the_same_fields_whatever_files_it_comes_in(home, monkeypatch):
    atomic, old = home / "atomic", home / "old"
    atomic.mkdir()
    (atomic / "x.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t7\t5\t100\n1\t8\t3\t200\n2\t8\t1\t7300\n2\t9\t4\t400\n"
    )
    (atomic / "x.user").write_text(
        "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n2\t53\tF\tother\t94043\n1\t24\tM\twriter\t85711\n"
    )
    (atomic / "x.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "7\tOld One\t1954\tDrama\n8\tNew One\t1995\tAction Comedy\n9\tOdd\tV\tWar\n"
    )
    old.mkdir()
    (old / "u.data").write_text("1\t7\t5\t100\n1\t8\t3\t200\n2\t8\t1\t7300\n2\t9\t4\t400\n")
    (old / "u.user").write_text("1|24|M|writer|85711\n2|53|F|other|94043\n")
    kinds = {7: {8}, 8: {1, 5}, 9: {17}}  # Drama; Action and Comedy; War
    titles = {7: "Old One (1954)", 8: "New One (1995)", 9: "Odd"}
    (old / "u.item").write_text(
        "".join(f"{i}|{titles[i]}||||" + "|".join(str(int(g in kinds[i])) for g in range(19)) + "\n" for i in titles)
    )
    for folder in (atomic, old):
        monkeypatch.setattr("palate.study.public_rows.load", lambda name, folder=folder: read(folder))
        seven, fields = movielens_seven(edition="ml-100k")
        assert seven.column_names == [f.name for f in fields] + ["label"]
        rows = sorted(seven.to_pylist(), key=lambda row: row["time"])
        assert rows[0] == {
            "gender": "M", "age": "24", "occupation": "writer", "zip": "85711", "year": "1950s",
            "genres": ["Drama"], "time": 100.0, "label": 1.0,
        }  # fmt: skip
        assert [(r["year"], r["genres"], r["label"]) for r in rows[1:]] == [
            (None, ["War"], 1.0), ("1995", ["Action", "Comedy"], 0.0)
        ]  # fmt: skip
        likes, fields = movielens_likes(edition="ml-100k")
        assert set(likes.column_names) == {f.name for f in fields} | {"label"}
        told = sorted(zip(*(likes.column(c).to_pylist() for c in ("user", "item", "hour", "label")), strict=True))
        assert told == [("1", "7", "0", 1.0), ("2", "8", "2", 0.0), ("2", "9", "0", 1.0)]
        assert [str(one) for one in movielens_people(edition="ml-100k")] == likes.column("user").to_pylist()


def test_ratings_without_what_is_known_of_people_are_refused(monkeypatch):
    bare = Dataset.from_columns(user=[1, 2], item=[7, 8], value=[5.0, 1.0], time=[1, 2])
    monkeypatch.setattr("palate.study.public_rows.load", lambda name: bare)
    with pytest.raises(DataError, match="attributes of people"):
        movielens_likes(edition="ml-100k")


def test_ratings_are_read_whole_or_a_number_of_them_and_it_is_said_what_stands_there(home):
    assert movielens_told() == "MovieLens 1M", "nothing is here"
    folder = home / "ml-1m"
    folder.mkdir()
    lines = [(user, film, 5 if film % 2 else 1, 100 * user) for user in (1, 2) for film in range(10)]
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072-01\n")
    (folder / "movies.dat").write_text("".join(f"{film}::Film {film} (1999)::Drama\n" for film in range(10)))
    (folder / "sequences.txt").write_text("1 2 3\n")
    (folder / "ratings_sample.csv").write_text(
        "user_id,item_id,rating,timestamp\n" + "".join(",".join(map(str, line)) + "\n" for line in lines[:15])
    )
    assert movielens_told() == "a sample of 15 ratings of MovieLens 1M"
    assert movielens_likes()[0].num_rows == 15
    (folder / "ratings.dat").write_text("".join("::".join(map(str, line)) + "\n" for line in lines))
    assert movielens_told() == "MovieLens 1M"
    assert movielens_told(8) == "a sample of 8 ratings of MovieLens 1M"
    whole, some = movielens_likes()[0], movielens_likes(8)[0]
    assert (whole.num_rows, some.num_rows) == (20, 8)
    assert set(zip(*(some.column(c).to_pylist() for c in ("user", "item")), strict=True)) <= {
        (str(user), str(film)) for user, film, *_ in lines
    }


def test_clicks_of_open_bandit(home):
    with pytest.raises(DataError, match="random/men"):
        open_bandit_clicks("men")
    folder = home / "obd" / "random" / "men"
    folder.mkdir(parents=True)
    (folder / "item_context.csv").write_text(
        ",item_id,item_feature_0,item_feature_1\n0,0,-0.5,red\n1,1,0.25,blue\n2,7,1.5,red\n"
    )
    names = "timestamp,item_id,position,click,propensity_score,user_feature_0,user-item_affinity_0"
    (folder / "men.csv").write_text(
        f",{names},user-item_affinity_1,user-item_affinity_2\n"
        "0,2019-11-24 13:30:00+00:00,7,2,1,0.1,young,0.0,1.0,2.0\n"
        "1,2019-11-25 00:05:00+00:00,0,1,0,0.1,old,3.0,4.0,5.0\n"
        "2,2019-11-24 12:00:00+00:00,1,3,0,0.1,young,6.0,7.0,8.0\n"
    )
    table, fields = open_bandit_clicks("men")
    assert table.to_pylist()[1:] == [
        {
            "item": "7", "position": "2", "user_feature_0": "young", "hour": "13", "weekday": "6",
            "item_feature_0": 1.5, "item_feature_1": "red", "affinity": 2.0, "label": 1.0,
        },
        {
            "item": "0", "position": "1", "user_feature_0": "old", "hour": "0", "weekday": "0",
            "item_feature_0": -0.5, "item_feature_1": "red", "affinity": 3.0, "label": 0.0,
        },
    ]  # fmt: skip
    assert table.column("hour").to_pylist()[0] == "12", "rows stand in order of time"
    kinds = {f.name: f.kind for f in fields}
    assert kinds["item_feature_0"] == kinds["affinity"] == "number" and kinds["item_feature_1"] == kinds["item"] == "category"
    assert set(kinds) == set(table.column_names) - {"label"} and "propensity" not in table.column_names


def test_open_bandit_may_have_no_affinities_and_no_item_features(home):
    folder = home / "obd" / "bts" / "all"
    folder.mkdir(parents=True)
    (folder / "item_context.csv").write_text("item_id\n0\n1\n")
    (folder / "all.csv").write_text(
        "timestamp,item_id,position,click,propensity_score,user_feature_0\n2019-11-24 13:30:00+00:00,1,1,1,0.5,a\n"
    )
    table, fields = open_bandit_clicks("all", "bts")
    assert [f.name for f in fields] == ["item", "position", "user_feature_0", "hour", "weekday"]
    assert table.column("item").to_pylist() == ["1"]
    (folder / "item_context.csv").write_text("item_id\n0\n")
    with pytest.raises(DataError, match="not in item_context"):
        open_bandit_clicks("all", "bts")


def test_parts_hold_every_row_once(home):
    import pyarrow as pa

    table = pa.table({"x": list(range(100)), "label": [0.0, 1.0] * 50})
    parts = parts_of(table, {"train": 0.7, "valid": 0.1, "test": 0.2})
    assert [len(p) for p in parts.values()] == [70, 10, 20]
    assert sorted(v for p in parts.values() for v in p.features.column("x").to_pylist()) == list(range(100))
    again, other = (parts_of(table, {"all": 1.0}, seed=s)["all"].features.column("x").to_pylist() for s in (0, 1))
    assert again != other
