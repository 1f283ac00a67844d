"""What is known of a public data set before it is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: Exact counts, or counts as their owner rounds them (``"94.8K"``), by ``users``, ``items``, ``interactions``.
Counts = Mapping[str, int | str]
UNITS = {"": 1, "K": 1_000, "M": 1_000_000, "B": 1_000_000_000}


@dataclass(frozen=True)
class Download:
    """A file at its owner's.

    Attributes
    ----------
    url
        Where it is.
    checksum
        ``md5:…`` or ``sha256:…``, or ``git:…`` (the blob id in the owner's repository), as published; empty where none is.
    """

    url: str
    checksum: str = ""


@dataclass(frozen=True)
class Layout:
    """One form in which the data set is found on disk.

    Attributes
    ----------
    marker
        File that tells the layout (with or without ``.gz``).
    format
        Name of the reader (:data:`palate.data.readers.FORMATS`).
    source
        File below the data set's folder that the reader is given; ``"."`` is the folder.
    items
        File of item attributes and its id column, where the reader does not know of it.
    counts
        Expected counts, where this form holds others than the data set's own.
    """

    marker: str
    format: str
    source: str = "."
    items: tuple[str, str] | None = None
    counts: Counts = field(default_factory=dict)


@dataclass(frozen=True)
class PublicData:
    """A public data set.

    Attributes
    ----------
    name, title
        Short name and printed name.
    url
        Page of the owner.
    licence
        The terms, in a sentence.
    layouts
        Forms on disk, in order of preference; the first whose marker is there is read.
    counts
        Expected users, items and interactions, asserted on loading; empty where the owner publishes none.
    downloads
        Files to fetch; empty where the owner wants a form filled in, or this edition is not to be had at one place.
    parts
        Interactions of each part, where a split was published (:func:`palate.data.public.load_split`).
    folder
        Folder below ``PALATE_DATA`` and the cache (the name, unless said).
    note
        What else a user should know.
    """

    name: str
    title: str
    url: str
    licence: str
    layouts: tuple[Layout, ...]
    counts: Counts = field(default_factory=dict)
    downloads: tuple[Download, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    folder: str = ""
    note: str = ""

    @property
    def has_split(self) -> bool:
        """Whether a split was published."""
        return bool(self.parts)

    @property
    def place(self) -> str:
        """Folder name below ``PALATE_DATA`` and the cache."""
        return self.folder or self.name


def counts(users: int | str, items: int | str, interactions: int | str) -> dict[str, int | str]:
    """Return expected counts."""
    return {"users": users, "items": items, "interactions": interactions}


def agrees(found: int, published: int | str) -> bool:
    """Say whether a count is the published one, exactly or to the digits that were published.

    Examples
    --------
    >>> agrees(94_762, "94.8K"), agrees(94_862, "94.8K"), agrees(253, 253)
    (True, False, True)
    """
    if isinstance(published, int):
        return found == published
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?([KMB]?)", published)
    if match is None:
        raise ValueError(f"not a published count: {published!r}")
    whole, decimals, unit = match.groups(default="")
    step = UNITS[unit] / 10 ** len(decimals)
    return abs(found - float(f"{whole}.{decimals or 0}") * UNITS[unit]) <= step / 2
