"""Readers of folders, on made-up files of each layout, and on research data where it is there."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from palate.data.readers import read, read_parts, rows_dropped
from palate.data.search_events import searches_of_events
from palate.errors import DataError


def fill(folder: Path, **files: str | bytes) -> Path:
    """Write files; ``__`` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        name = name.replace("__", ".")
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def events(data):
    found = data.interactions
    users, items = data.users.ids.decode(found.user).to_pylist(), data.items.ids.decode(found.item).to_pylist()
    return list(zip(users, items, strict=True))


def attributes(entities):
    rows = entities.attributes.to_pylist()
    return dict(zip(entities.ids.raw.to_pylist(), rows, strict=True))


INTER = """user_id:token\titem_id:token\trating:float\ttimestamp:float
u1\ti1\t4\t881250949
u2\ti2\t3\t8.8125095e8
u1\ti2\t5\t1.5
"""


def test_ties_and_triples_stand_beside_the_events_of_a_folder(tmp_path):
    folder = fill(
        tmp_path / "shop",
        events__csv="user,item\nu1,a\nu2,b\nu2,a\n",
        trust__csv="user,friend\nu1,u2\nu1,nobody\n",
        kg__csv="head,relation,tail\na,maker,m1\nb,maker,m1\nm1,land,x\n",
    )
    knowledge = read(folder).graphs["knowledge"]
    names = knowledge.entities.raw.to_pylist()
    assert [names[e] for e in knowledge.item_entity] == ["a", "b"] and len(knowledge) == 3
    assert knowledge.relations.raw.to_pylist() == ["maker", "land"]
    assert read(folder).spec[0]["links"] == {"social": [1, 1], "knowledge": [3, 0]}
    fill(folder, item_entities__csv="item,entity\na,m1\ngone,x\n")
    knowledge = read(folder).graphs["knowledge"]
    assert [None if e < 0 else knowledge.entities.raw[e].as_py() for e in knowledge.item_entity.tolist()] == ["m1", None]
    fill(folder, kg__csv="head,tail\na,m1\n")
    with pytest.raises(DataError, match=r"lacks columns[\s\S]*head, relation, tail"):
        read(folder)


def test_searches_stand_beside_the_events_of_a_folder(tmp_path):
    files = {
        "visits__csv": "user,item,time\nu1,a,1100\nu2,b,1200\nu2,a,1300\n",
        "searches__csv": "user,item,query,time,items\nu1,a,red shoe,1090,a|b\nghost,b,blue,1000,b\n",
    }
    data = read(fill(tmp_path / "shop", **files))
    assert len(data) == 3  # the log of searches is no second shard of events, though it has users and items
    assert data.searches.select(["user", "query", "time", "items"]).to_pylist() == [
        {"user": 0, "query": "red shoe", "time": 1090, "items": [0, 1]},
        {"user": None, "query": "blue", "time": 1000, "items": [1]},
    ]
    assert searches_of_events(data).tolist() == [0, -1, -1]
    bad = files["searches__csv"] + "u2,a,late,noon,a\n"
    folder = fill(tmp_path / "bad", visits__csv=files["visits__csv"], searches__csv=bad)
    with pytest.raises(DataError, match=r"searches\.csv"):
        read(folder)
    assert read(folder, on_bad_rows="drop").searches.num_rows == 2
    with pytest.raises(DataError, match="looks like the query"):
        read(fill(tmp_path / "lacking", visits__csv=files["visits__csv"], searches__csv="user,item\nu1,a\n"))


def test_recbole_folder(tmp_path):
    folder = fill(
        tmp_path / "toy",
        toy__inter=INTER,
        toy__item="item_id:token\tmovie_title:token_seq\tclass:token_seq\tyear:float\tvec:float_seq\n"
        'i2\tThe "Two\tA B\t1999\t0.5 1\ni1\tOne man\tC\t\t\ni9\tUnseen\tA\t2000\t1 1\n',
        toy__user="user_id:token\tage:token\nu1\t24\n",
        toy__kg="head_id:token\trelation_id:token\ttail_id:token\nm.1\tdirector\tm.7\nm.2\tactor\tm.1\n",
        toy__link="item_id:token\tentity_id:token\ni2\tm.2\ni7\tm.1\n",
        toy__net="source_id:token\ttarget_id:token\nu1\tu2\nu1\tu5\n",
    )
    data = read(folder)
    assert data.name == "toy"
    assert events(data) == [("u1", "i2"), ("u1", "i1"), ("u2", "i2")]
    assert data.interactions.time.tolist() == [1, 881_250_949, 881_250_950]
    assert data.interactions.value.tolist() == [5, 4, 3]
    assert attributes(data.items) == {
        "i1": {"title": "One man", "categories": ["C"], "year": None, "vec": None},
        "i2": {"title": 'The "Two', "categories": ["A", "B"], "year": 1999.0, "vec": [0.5, 1.0]},
    }
    assert data.items.labels(np.array([0, 1])) == ["One man", 'The "Two']
    assert attributes(data.users) == {"u1": {"age": "24"}, "u2": {"age": None}}
    graph = data.graphs["knowledge"]
    assert graph.entities.raw.to_pylist() == ["m.1", "m.2", "m.7"]
    assert graph.relations.raw.to_pylist() == ["director", "actor"]
    assert (graph.head.tolist(), graph.tail.tolist(), graph.item_entity.tolist()) == ([0, 1], [2, 0], [-1, 1])
    social = data.graphs["social"]
    assert (social.head.tolist(), social.tail.tolist()) == ([0], [1])
    assert data.spec[0]["links"] == {"knowledge": [2, 0], "social": [1, 1]}
    assert data.spec[0]["item_without_interactions_left_out"] == 1
    assert read(folder, keep_unseen=True).items.ids.raw.to_pylist() == ["i1", "i2", "i9"]


def test_recbole_benchmark_files_are_parts(tmp_path):
    header, *lines = INTER.splitlines(keepends=True)
    folder = fill(tmp_path / "toy", toy__train__inter=header + lines[0] + lines[1], toy__test__inter=header + lines[2])
    parts = read_parts(folder)
    assert [(name, len(part)) for name, part in parts.items()] == [("train", 2), ("test", 1)]
    assert events(parts["test"]) == [("u1", "i2")]
    assert parts["train"].items.ids == parts["test"].items.ids


def test_movielens_100k(tmp_path):
    genres = "|".join("1" if at in (1, 5) else "0" for at in range(19))
    folder = fill(
        tmp_path,
        u__data="196\t242\t3\t881250949\n186\t302\t3\t891717742\n",
        u__item=f"242|Café (1995)|01-Jan-1995||http://x|{genres}\n302|Other|||u|{'0|' * 18}0\n".encode("latin-1"),
        u__user="196|49|M|writer|55105\n186|39|F|executive|00000\n",
    )
    data = read(folder)
    assert events(data) == [(196, 242), (186, 302)]
    assert attributes(data.items)[242]["title"] == "Café (1995)"
    assert attributes(data.items)[242]["categories"] == ["Action", "Comedy"]
    assert attributes(data.users)[186] == {"age": 39, "gender": "F", "occupation": "executive", "zip_code": "00000"}


def test_movielens_1m(tmp_path):
    folder = fill(
        tmp_path,
        ratings__dat="1::1193::5::978300760\n2::661::3::978302109\n" * 3000 + "3::1193::4::1\n",
        movies__dat="1193::Misérables, Les (1995)::Drama|Musical\n661::J::Animation\n".encode("latin-1"),
        users__dat="1::F::1::10::48067\n2::M::56::16::02139\n3::M::25::15::55117\n",
    )
    data = read(folder)
    assert (data.n_users, data.n_items, len(data)) == (3, 2, 6001)
    assert attributes(data.items)[1193] == {"title": "Misérables, Les (1995)", "categories": ["Drama", "Musical"]}
    assert attributes(data.users)[2]["zip_code"] == "02139"


def test_movielens_csv(tmp_path):
    folder = fill(
        tmp_path,
        ratings__csv__gz="userId,movieId,rating,timestamp\n1,1,4.0,964982703\n2,3,4.5,964981247\n",
        movies__csv='movieId,title,genres\n1,"Two, Three (1995)",Adventure|Comedy\n3,X,(no genres listed)\n5,Y,Drama\n',
        links__csv="movieId,imdbId,tmdbId\n1,0114709,862\n3,0113497,8844\n",
    )
    data = read(folder)
    assert attributes(data.items) == {
        1: {"title": "Two, Three (1995)", "categories": ["Adventure", "Comedy"], "imdbId": "0114709", "tmdbId": 862},
        3: {"title": "X", "categories": None, "imdbId": "0113497", "tmdbId": 8844},
    }


def test_amazon_2014_with_python_metadata(tmp_path):
    review = {"reviewerID": "A1", "asin": "0001", "overall": 5.0, "unixReviewTime": 1_400_000_000, "reviewText": "x"}
    folder = fill(
        tmp_path,
        reviews_Toys_5__json__gz="".join(json.dumps({**review, "reviewerID": u}) + "\n" for u in ("A1", "A2")),
        meta_Toys__json="{'asin': '0001', 'title': \"It's\", 'price': 3.5, 'categories': [['Toys', 'Games']], "
        "'related': {'also_bought': ['0002']}}\n",
    )
    for data in (read(folder), read(folder / "reviews_Toys_5.json.gz")):
        assert events(data) == [("A1", "0001"), ("A2", "0001")]
        expected = {"title": "It's", "price": 3.5, "categories": ["Toys", "Games"], "also_buy": ["0002"]}
        assert attributes(data.items)["0001"] == expected


def test_amazon_2023(tmp_path):
    reviews = [
        {"rating": 4.0, "title": "ok", "asin": "B2", "parent_asin": "B1", "user_id": u, "timestamp": 1_600_000_000_123 + n}
        for n, u in enumerate(["U1", "U2", "U1"])
    ]
    meta = {"main_category": "All", "title": "Thing", "price": "$1,234.50", "description": ["a", "b"], "categories": ["C"]}
    folder = fill(
        tmp_path,
        Things__jsonl="".join(json.dumps(r) + "\n" for r in reviews),
        meta_Things__jsonl=json.dumps({**meta, "parent_asin": "B1", "store": "S", "features": ["f"]}) + "\n",
    )
    data = read(folder)
    assert events(data)[0] == ("U1", "B1")
    assert data.interactions.time.tolist() == [1_600_000_000] * 3
    assert data.spec[0]["time"]["unit"] == "ms"
    assert attributes(data.items)["B1"] == {
        "categories": ["C"],
        "title": "Thing",
        "brand": "S",
        "price": 1234.5,
        "text": "a\nb",
        "features": ["f"],
        "main_category": "All",
    }


def test_sequences(tmp_path):
    folder = fill(
        tmp_path, sequences__txt="1 5 6 5\n\n2\t7\n", items__tsv="item_id\ttitle\tattribute_ids\n5\tFive\t1,2\n6\tSix\t\n"
    )
    data = read(folder)
    assert events(data) == [(1, 5), (1, 6), (1, 5), (2, 7)]
    assert data.interactions.time is None
    assert attributes(data.items)[5] == {"title": "Five", "attribute_ids": ["1", "2"]}
    assert events(read(folder / "sequences.txt")) == events(data)


def test_sequences_of_many_lines(tmp_path, monkeypatch):
    monkeypatch.setattr("palate.data.readers.sequences.LINES", 3)
    path = fill(tmp_path, sequences__txt="".join(f"{n} {n + 1} {n}\n" for n in range(100))) / "sequences.txt"
    assert events(read(path)) == [(n, i) for n in range(100) for i in (n + 1, n)]


def test_lightgcn(tmp_path):
    folder = fill(tmp_path / "g", train__txt="0 5 6\n1 5\n", test__txt="0 7\n1\n")
    data = read(folder)
    assert events(data) == [(0, 5), (0, 6), (0, 7), (1, 5)]
    parts = read_parts(folder)
    assert events(parts["train"]) == [(0, 5), (0, 6), (1, 5)]
    assert events(parts["test"]) == [(0, 7)]
    assert data.spec[0]["parts"] == {"train": 3, "test": 1}
    assert events(read(folder / "train.txt", format="lightgcn")) == events(parts["train"])
    with pytest.raises(DataError, match="no parts"):
        read_parts(folder / "train.txt", format="lightgcn")


def test_coat(tmp_path):
    folder = fill(
        tmp_path,
        train__ascii="0 5\n3 0\n",
        test__ascii="1 0\n0 2\n",
        user_features__ascii="1 0\n0 1\n",
        user_features_map__txt="gender:men\ngender:women\n",
    )
    data = read(folder)
    assert sorted(events(data)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert attributes(data.users) == {0: {"gender": "men"}, 1: {"gender": "women"}}
    assert {name: len(part) for name, part in read_parts(folder).items()} == {"train": 2, "test": 2}
    fill(tmp_path, train__ascii="0 5\n3\n")
    with pytest.raises(DataError, match="ragged") as caught:
        read(folder)
    assert caught.value.where.endswith("train.ascii, line 2")


def test_plain_folder_with_items_and_trust(tmp_path):
    folder = fill(
        tmp_path,
        ratings__csv="user_id,book_id,rating\n1,10,5\n2,11,4\n",
        books__csv="book_id,title,genres\n10,Ten,a|b\n11,Eleven,c\n",
        trust__csv="user_id,trusted_user_id\n1,2\n2,9\n",
        notes__txt="nothing here\n",
    )
    data = read(folder)
    assert attributes(data.items)[10] == {"title": "Ten", "categories": ["a", "b"]}
    assert len(data.graphs["social"]) == 1


def test_shards_are_read_in_order_of_name(tmp_path):
    folder = fill(tmp_path, part_2__csv="user,item\n3,30\n1,11\n", part_1__csv="user,item\n1,10\n2,20\n")
    data = read(folder)
    assert events(data) == [(1, 10), (1, 11), (2, 20), (3, 30)]
    fill(folder, part_3__csv="user,item\n4,x\n")
    with pytest.raises(DataError, match="mixed id types") as caught:
        read(folder)
    assert caught.value.where.endswith("part_3.csv, line 2")


def test_train_and_test_tables_are_parts(tmp_path):
    folder = fill(tmp_path, train__csv="user,item\n1,10\n2,20\n", test__csv="user,item\n1,20\n")
    assert {n: events(p) for n, p in read_parts(folder).items()} == {"train": [(1, 10), (2, 20)], "test": [(1, 20)]}
    fill(folder, test__csv="user,movie\n1,20\n")
    with pytest.raises(DataError, match="differ in columns"):
        read(folder)


def test_parts_are_told_apart_when_bad_rows_are_dropped(tmp_path):
    (tmp_path / "train.csv").write_text("user,item,time\na,x,1\nb,y,soon\nb,x,3\n")
    (tmp_path / "test.csv").write_text("user,item,time\na,y,4\n,y,5\nb,y,6\n")
    parts = read_parts(tmp_path, on_bad_rows="drop")
    assert {name: part.interactions.time.tolist() for name, part in parts.items()} == {"train": [1, 3], "test": [4, 6]}
    assert sum(rows_dropped(parts["train"]).values()) == 2


def test_folder_without_interactions_lists_its_files(tmp_path):
    folder = fill(tmp_path, notes__csv="a,b\n1,2\n")
    with pytest.raises(DataError, match="no file of the folder") as caught:
        read(folder)
    assert caught.value.value == ["notes.csv"]


def test_split_folder_is_read_whole(tmp_path):
    import palate.data.split_files as files
    from palate.data.dataset import Dataset
    from palate.data.protocols import split

    data = Dataset.from_columns(["a", "b"] * 6, [n % 5 for n in range(12)], time=list(range(12)))
    files.write_split(split(data, "leave_one_out"), tmp_path / "s")
    back = read(tmp_path / "s")
    assert sorted(events(back)) == sorted(events(data))
    assert len(read_parts(tmp_path / "s")["test"]) == 2
