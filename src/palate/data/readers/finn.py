"""The slate data of FINN.no (S. Eide et al., 2021): what a marketplace showed, and what was clicked of it, with no-clicks.

A folder holds three files::

    data.npz       userId [U]; click, click_idx, slate_lengths, interaction_type [U, T]; slate [U, T, S]   whole numbers
    itemattr.npz   category [n_items]: group of each item
    ind2val.json   names of category and of interaction_type

Item 0 is padding, 1 stands for "no click" (slot 0 of every slate), 2 for an unknown item. Rows of users are read in blocks, so
memory is bounded by what is kept: about 24 bytes an item shown, 9 GB for all 2.3 million users. ``users`` keeps a sample of
them, drawn alike for the same seed.

Know before you conclude: most slates answer a search whose query isn't there; items' numbers are of this export alone, and
their groups hold the place as well as the kind of thing; no chances of what was shown were logged, so how often a policy's
choices agree with the clicks of this log is no evidence for or against exploring.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import ConfigError, DataError
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator

#: Numbers of items that are no items: padding, the option of no click, an item that the export doesn't name.
PADDING, NO_CLICK, UNKNOWN = 0, 1, 2
#: The first real item.
FIRST = 3
#: Arrays of ``data.npz`` and the dimensions of each.
ARRAYS = {"userId": 1, "click": 2, "click_idx": 2, "slate": 3, "slate_lengths": 2, "interaction_type": 2}
#: Users of a block.
BLOCK = 8192


def read_finn_slates(
    folder: str | Path,
    *,
    users: int | None = None,
    seed: int = 0,
    keep_unseen: bool = False,
    name: str = "finn-slates",
    progress: Progress = silent,
) -> Dataset:
    """Read FINN.no's slates.

    Parameters
    ----------
    folder
        Holds ``data.npz``, ``itemattr.npz`` and ``ind2val.json``.
    users
        How many users to keep, drawn at random; ``None`` keeps all.
    seed
        Fixes the draw.
    keep_unseen
        Whether items that nobody kept was shown belong to the catalogue.
    name
        What to call the data set.
    progress
        Called after each block.

    Returns
    -------
    Dataset
        ``interactions`` are the clicks on known items in the order in which they were made (the data have no times);
        ``impressions`` have one row an item shown: ``impression`` (int64), ``user``, ``item`` (null where the export doesn't
        name it), ``position`` (from 1), ``click``, ``time`` (place of the slate among those of the user, from 0) and
        ``interaction_type``. Items have a ``category``. A click on an unknown item stays a click on a null item; padding is
        dropped, and so is a slate with a click of which not even the place is known; a slate without a click has no row that is
        clicked.

    Raises
    ------
    DataError
        If a file or an array is missing, damaged, or of another form, or if values contradict each other; the file, the array
        and the row are named.
    """
    home = Path(folder)
    category, names = _attributes(home)
    with _Data(home / "data.npz") as data:
        keep = _sample(data.n_users, users, seed)
        parts, ids, taken = [], [], 0
        for start, block in data.blocks():
            _check(block, start, len(category), home / "data.npz")
            rows = np.flatnonzero(keep[start : start + len(block["userId"])])
            parts.append(_shown({key: array[rows] for key, array in block.items()}, taken))
            ids.append(block["userId"][rows])
            taken += len(rows)
            progress(ProgressEvent("FINN.no slates: users", min(start + BLOCK, data.n_users), data.n_users))
    shown = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    people = Vocabulary(pa.array(np.concatenate(ids).astype(np.int64)))
    if len(np.unique(people.raw.to_numpy())) < len(people):
        raise DataError("a user has two rows.", where=f"{home / 'data.npz'}, userId", remedy="fetch the file again")
    return _dataset(shown, people, category, names, keep_unseen, name, {"users": users, "seed": seed})


def _sample(n: int, users: int | None, seed: int) -> np.ndarray:
    if users is not None and users < 1:
        raise ConfigError("at least one user must be kept.", where="users", value=users)
    keep = np.ones(n, bool)
    if users is not None and users < n:
        keep[:] = False
        keep[generator(seed, "finn slates", "users").choice(n, users, replace=False)] = True
    return keep


def _dataset(
    shown: dict[str, np.ndarray],
    people: Vocabulary,
    category: np.ndarray,
    names: Mapping[str, Mapping[int, str]],
    keep_unseen: bool,
    name: str,
    options: Mapping[str, Any],
) -> Dataset:
    """Number the items and put the tables together."""
    item = shown.pop("item")
    raw = np.arange(FIRST, len(category)) if keep_unseen else np.unique(item[item >= FIRST])
    number = np.full(len(category), -1, np.int32)
    number[raw] = np.arange(len(raw), dtype=np.int32)
    numbers = number[item]
    labels = names["category"]
    groups = pa.array([labels.get(code, str(code)) for code in category[raw].tolist()], pa.string())
    clicked = shown["click"] & (numbers >= 0)
    kinds, codes = names["interaction_type"], shown.pop("type")
    written = {code: kinds.get(code, str(code)) for code in np.unique(codes).tolist()}
    order = sorted(written)
    type_column = pa.DictionaryArray.from_arrays(
        np.searchsorted(order, codes).astype(np.int8), pa.array([written[code] for code in order], pa.string())
    )
    table = {key: pa.array(shown[key]) for key in ("impression", "user", "position", "click", "time")}
    table["item"] = pa.array(numbers, mask=numbers < 0)
    events = Interactions.sorted(shown["user"][clicked], numbers[clicked])
    step = {"step": "read finn slates", **options, "rows": len(item), "unknown": {"item": int((numbers < 0).sum())}}
    return Dataset(
        events,
        Entities(people),
        Entities(Vocabulary(pa.array(raw.astype(np.int64))), pa.table({"category": groups})),
        impressions=pa.table({**table, "interaction_type": type_column}),
        name=name,
        spec=(step,),
    )


def _shown(block: dict[str, np.ndarray], first: int) -> dict[str, np.ndarray]:
    """Return the rows of items shown of a block, whose first user has the number ``first``."""
    slate, click = block["slate"], block["click"]
    _, steps, slots = slate.shape
    used = (click != PADDING)[:, :, None] & (np.arange(slots) < block["slate_lengths"][:, :, None])
    used[:, :, 0] = False
    used[(click == UNKNOWN) & (block["click_idx"] == 0)] = False  # somebody clicked, but nobody knows where
    user, step, slot = (index.astype(np.int64) for index in np.nonzero(used))
    clicked = (click[user, step] != NO_CLICK) & (block["click_idx"][user, step] == slot)
    return {
        "impression": (first + user) * steps + step,
        "user": (first + user).astype(np.int32),
        "item": np.where(clicked & (click[user, step] == UNKNOWN), UNKNOWN, slate[user, step, slot]).astype(np.int32),
        "position": slot.astype(np.int16),
        "click": clicked,
        "time": step,
        "type": block["interaction_type"][user, step].astype(np.int16),
    }


def _check(block: dict[str, np.ndarray], start: int, n_items: int, where: Path) -> None:
    """Refuse values that contradict each other."""
    slate, click, index, length = (block[key].astype(np.int64) for key in ("slate", "click", "click_idx", "slate_lengths"))
    slots = slate.shape[2]
    seen = click != PADDING
    inside = (index >= 0) & (index < slots)
    at = np.take_along_axis(slate, np.where(inside, index, 0)[:, :, None], 2)[:, :, 0]
    used = seen[:, :, None] & (np.arange(slots) < length[:, :, None])
    faults = {
        "slate": (((slate < 0) | (slate >= n_items)).any(2), "an item has no attributes."),
        "slate_lengths": (
            seen & ((length < 1) | (length > slots)),
            "a slate has fewer slots than one, or more than there are.",
        ),
        "click_idx": (seen & (~inside | (index >= length)), "a click lies outside its slate."),
        "click": (seen & inside & (click != UNKNOWN) & (at != click), "the clicked item is not the one at the clicked slot."),
        "slate: slot 0": (seen & (slate[:, :, 0] != NO_CLICK), "slot 0 must be the option of no click."),
        "slate: used slots": ((used & (slate == PADDING)).any(2), "a used slot is empty."),
    }
    for name, (bad, what) in faults.items():
        if bad.any():
            user, step = np.argwhere(bad)[0]
            place = f"{where}, {name}, row {start + user}, step {step}"
            raise DataError(what, where=place, value=slate[user, step].tolist(), remedy="fetch the file again")


class _Data:
    """``data.npz``, read in blocks of users: members are decompressed side by side, never whole."""

    def __init__(self, path: Path) -> None:
        self.path, self.stack = path, ExitStack()

    def __enter__(self) -> _Data:
        archive = self.stack.enter_context(_archive(self.path))
        self.members: dict[str, tuple[IO[bytes], tuple[int, ...], np.dtype]] = {}
        try:
            for key, dims in ARRAYS.items():
                self.members[key] = self._member(archive, key, dims)
        except BaseException:
            self.stack.close()
            raise
        shapes = {key: shape for key, (_, shape, _) in self.members.items()}
        self.n_users, steps, _ = shapes["slate"]
        for key, shape in shapes.items():
            if shape[:2] != (self.n_users, steps)[: min(2, len(shape))]:
                self.stack.close()
                raise DataError("arrays have different sizes.", where=f"{self.path}, {key}", value=[shape, shapes["slate"]])
        return self

    def __exit__(self, *failure: object) -> None:
        self.stack.close()

    def _member(self, archive: zipfile.ZipFile, key: str, dims: int) -> tuple[IO[bytes], tuple[int, ...], np.dtype]:
        stream, shape, dtype = _open_member(archive, key, self.path)
        self.stack.callback(stream.close)
        if len(shape) != dims or dtype.kind not in "iu":
            what = f"the array must hold whole numbers in {dims} dimensions."
            raise DataError(what, where=f"{self.path}, {key}", value=[list(shape), str(dtype)])
        return stream, shape, dtype

    def blocks(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield the number of the first user, and the arrays of a block of users."""
        for start in range(0, self.n_users, BLOCK):
            rows = min(BLOCK, self.n_users - start)
            yield start, {key: self._read(key, rows) for key in ARRAYS}

    def _read(self, key: str, rows: int) -> np.ndarray:
        stream, shape, dtype = self.members[key]
        size = rows * int(np.prod(shape[1:])) * dtype.itemsize
        try:
            content = stream.read(size)
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise _damaged(self.path, key, error) from error
        if len(content) < size:
            raise _damaged(self.path, key, EOFError("it ends early"))
        return np.frombuffer(content, dtype).reshape(rows, *shape[1:])


def _archive(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise DataError("there is no such file.", where=path, remedy="give the folder of the unpacked data")
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError("this is not a whole npz file.", where=path, value=str(error), remedy="fetch it again") from error


def _open_member(archive: zipfile.ZipFile, key: str, path: Path) -> tuple[IO[bytes], tuple[int, ...], np.dtype]:
    """Open one array of an npz file and read its head."""
    if f"{key}.npy" not in archive.namelist():
        held = [name.removesuffix(".npy") for name in archive.namelist()]
        remedy = "a newer or older export? this reader knows: " + ", ".join(ARRAYS)
        raise DataError(f"the array {key!r} is missing.", where=path, value=held, remedy=remedy)
    stream = archive.open(f"{key}.npy")
    try:
        version = npy.read_magic(stream)
        head = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = head(stream)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
        raise _damaged(path, key, error) from error
    if (by_column and len(shape) > 1) or dtype.hasobject:
        raise DataError("the array can't be read row by row.", where=f"{path}, {key}", value=str(dtype))
    return stream, shape, dtype


def _attributes(home: Path) -> tuple[np.ndarray, dict[str, dict[int, str]]]:
    """Return the group of every item, and the names of groups and of kinds of slates."""
    path = home / "itemattr.npz"
    with _archive(path) as archive:
        stream, shape, dtype = _open_member(archive, "category", path)
        with stream:
            content = stream.read()
    if len(shape) != 1 or dtype.kind not in "iuf" or len(content) != shape[0] * dtype.itemsize:
        raise _damaged(path, "category", ValueError(f"{len(content)} bytes for {list(shape)} of {dtype}"))
    category = np.frombuffer(content, dtype)
    wrong = ~np.isfinite(category) | (category < 0) | (category != np.floor(category))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError("a group is no whole number.", where=f"{path}, category, row {row}", value=category[row].item())
    return category.astype(np.int64), _names(home / "ind2val.json")


def _names(path: Path) -> dict[str, dict[int, str]]:
    if not path.is_file():
        raise DataError("there is no such file.", where=path, remedy="give the folder of the unpacked data")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        return {key: {int(code): str(value) for code, value in table[key].items()} for key in ("category", "interaction_type")}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        remedy = 'it holds {"category": {number: name}, "interaction_type": {number: name}}'
        raise DataError("the names can't be read.", where=path, value=repr(error), remedy=remedy) from error


def _damaged(path: Path, key: str, error: Exception) -> DataError:
    return DataError("the array is damaged.", where=f"{path}, {key}", value=str(error), remedy="fetch the file again")
