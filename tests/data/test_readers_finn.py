"""FINN.no's slates: small files in that very form, by hand and made up."""

import json

import numpy as np
import pytest

from palate.data.readers import finn
from palate.data.readers.finn import read_finn_slates
from palate.data.slates import NO_CLICK, UNKNOWN, SlateLog
from palate.errors import ConfigError, DataError
from palate.simulate.finn import write_finn_slates
from palate.simulate.slates import SlateMarket


def arrays():
    """Three users, three steps, four slots; item 5 is never shown."""
    slate = np.zeros((3, 3, 4), np.int32)
    slate[0, 0], slate[0, 1], slate[0, 2] = [1, 3, 4, 0], [1, 4, 2, 6], [1, 2, 3, 0]
    slate[1, 0], slate[1, 1] = [1, 6, 0, 0], [1, 3, 0, 0]
    slate[2, 0] = [1, 4, 0, 0]
    return {
        "userId": np.array([70, 71, 72], np.int32),
        "click": np.array([[4, 1, 2], [6, 2, 0], [1, 0, 0]], np.int32),
        "click_idx": np.array([[2, 0, 1], [1, 0, 0], [0, 0, 0]], np.int32),
        "slate": slate,
        "slate_lengths": np.array([[3, 4, 3], [2, 2, 0], [2, 0, 0]], np.int32),
        "interaction_type": np.array([[1, 2, 1], [2, 1, 0], [1, 0, 0]], np.int32),
    }


CATEGORY = np.array([0, 1, 2, 3, 3, 4, 4], float)
NAMES = {
    "category": {"0": "PAD", "1": "noClick", "2": "<UNK>", "3": "BAP,antiques,Trøndelag", "4": "BAP,pets,Oslo"},
    "interaction_type": {"0": "undefined", "1": "search", "2": "rec"},
}


def put(folder, given=None, category=CATEGORY, names=NAMES, save=np.savez_compressed):
    folder.mkdir(exist_ok=True)
    save(folder / "data.npz", **(arrays() if given is None else given))
    save(folder / "itemattr.npz", category=category)
    (folder / "ind2val.json").write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
    return folder


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("block", [1, 2, 100])
def test_by_hand(tmp_path, monkeypatch, save, block):
    monkeypatch.setattr(finn, "BLOCK", block)
    data = read_finn_slates(put(tmp_path / "finn", save=save))
    assert data.users.ids.raw.to_pylist() == [70, 71, 72] and data.items.ids.raw.to_pylist() == [3, 4, 6]
    assert data.items.column("category").to_pylist() == ["BAP,antiques,Trøndelag"] * 2 + ["BAP,pets,Oslo"]
    assert data.histories.ragged.tolist() == [[1], [2], []]
    rows = data.impressions.select(["impression", "user", "item", "position", "click", "time"]).to_pylist()
    # The second slate of user 71 has a click whose place isn't known: it is left out.
    assert [tuple(row.values()) for row in rows] == [
        (0, 0, 0, 1, False, 0),
        (0, 0, 1, 2, True, 0),
        (1, 0, 1, 1, False, 1),
        (1, 0, None, 2, False, 1),
        (1, 0, 2, 3, False, 1),
        (2, 0, None, 1, True, 2),
        (2, 0, 0, 2, False, 2),
        (3, 1, 2, 1, True, 0),
        (6, 2, 1, 1, False, 0),
    ]
    kinds = data.impressions.column("interaction_type").to_pylist()
    assert kinds == ["search"] * 2 + ["rec"] * 3 + ["search"] * 2 + ["rec", "search"]
    assert data.spec[-1]["unknown"] == {"item": 2}
    log = SlateLog.of(data)
    assert log.clicked.tolist() == [1, NO_CLICK, UNKNOWN, 0, NO_CLICK] and log.lengths.tolist() == [3, 4, 3, 2, 2]


def test_unseen_items_may_stay(tmp_path):
    data = read_finn_slates(put(tmp_path / "finn"), keep_unseen=True)
    assert data.items.ids.raw.to_pylist() == [3, 4, 5, 6]


def test_what_a_market_wrote_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(finn, "BLOCK", 7)
    market = SlateMarket(users=40, items=25, groups=4, slate=8, seed=5)
    folder = write_finn_slates(tmp_path / "made", market, steps=6, slots=12, unknown=0.1)
    data = read_finn_slates(folder)
    with np.load(folder / "data.npz") as raw:
        click, index, slate, length = (raw[key] for key in ("click", "click_idx", "slate", "slate_lengths"))
    log = SlateLog.of(data)
    assert len(log) == (click > 0).sum()
    assert (log.clicked == NO_CLICK).sum() == (click == 1).sum() and (log.clicked == UNKNOWN).sum() == (click == 2).sum()
    assert data.impressions.num_rows == (length - 1).clip(0).sum() and index.max() < slate.shape[2]
    shown = data.items.ids.raw.to_numpy()[log.items.values]
    np.testing.assert_array_equal(np.sort(shown), np.sort(slate[slate >= 3]))
    np.testing.assert_array_equal(np.sort(data.items.ids.raw.to_numpy()[data.interactions.item]), np.sort(click[click >= 3]))
    with pytest.raises(DataError, match="exists already"):
        write_finn_slates(folder, market)


def test_a_sample_of_users_is_repeatable(tmp_path):
    folder = write_finn_slates(tmp_path / "made", SlateMarket(users=40, items=25, groups=4, seed=5), steps=3)
    whole, some, again, other = (read_finn_slates(folder, users=n, seed=s) for n, s in ((None, 0), (9, 0), (9, 0), (9, 1)))
    assert some.n_users == 9 and some.fingerprint == again.fingerprint != other.fingerprint
    users = some.users.ids.raw.to_pylist()
    assert set(users) < set(whole.users.ids.raw.to_pylist())
    at = whole.users.ids.number(users[3])
    raw = [data.items.ids.decode(data.histories.ragged[n]).to_pylist() for data, n in ((some, 3), (whole, at))]
    assert raw[0] == raw[1]
    with pytest.raises(ConfigError, match="at least one user"):
        read_finn_slates(folder, users=0)


def changed(key, at, value):
    found = arrays()
    found[key] = found[key].copy()
    found[key][at] = value
    return found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (changed("slate", (1, 0, 1), 99), r"slate, row 1, step 0"),
        (changed("slate", (1, 0, 0), 3), r"slot 0, row 1"),
        (changed("slate", (0, 1, 1), 0), r"used slots, row 0, step 1"),
        (changed("click", (1, 0), 3), r"click, row 1, step 0"),
        (changed("click_idx", (0, 0), 3), r"click_idx, row 0, step 0"),
        (changed("slate_lengths", (2, 0), 9), r"slate_lengths, row 2, step 0"),
        (changed("userId", 1, 70), "two rows"),
        ({k: v for k, v in arrays().items() if k != "slate"}, "'slate' is missing"),
        ({**arrays(), "click": arrays()["click"].astype(float)}, "whole numbers"),
        ({**arrays(), "click": arrays()["click"][:2]}, "different sizes"),
        ({**arrays(), "slate": np.asfortranarray(arrays()["slate"])}, "row by row"),
    ],
)
def test_contradictions_are_named(tmp_path, given, message):
    with pytest.raises(DataError, match=message):
        read_finn_slates(put(tmp_path / "finn", given))


def test_damaged_and_missing_files_are_named(tmp_path):
    folder = put(tmp_path / "finn")
    whole = (folder / "data.npz").read_bytes()
    (folder / "data.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"data\.npz"):
        read_finn_slates(folder)
    (folder / "data.npz").unlink()
    with pytest.raises(DataError, match=r"no such file[^$]*data\.npz"):
        read_finn_slates(folder)
    put(folder, category=np.array([0, 1, np.nan]))
    with pytest.raises(DataError, match=r"category, row 2"):
        read_finn_slates(folder)
    put(folder, names={"category": {}})
    with pytest.raises(DataError, match=r"ind2val\.json"):
        read_finn_slates(folder)
    (folder / "ind2val.json").unlink()
    with pytest.raises(DataError, match=r"ind2val\.json"):
        read_finn_slates(folder)


def test_damaged_content_is_found(tmp_path):
    folder = put(tmp_path / "finn", save=np.savez)
    content = bytearray((folder / "data.npz").read_bytes())
    at = content.find(b"slate.npy") + 200
    content[at] ^= 0xFF
    (folder / "data.npz").write_bytes(bytes(content))
    with pytest.raises(DataError):
        read_finn_slates(folder)
