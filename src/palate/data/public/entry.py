"""What is known of a public data set before it is fetched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Download:
    """A file at its owner's.

    Attributes
    ----------
    url
        Where it is.
    checksum
        ``md5:…`` or ``sha256:…`` as published, or empty where the owner publishes none.
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
        Name of the reader.
    counts
        Expected ``users``, ``items``, ``interactions``; they are asserted on loading.
    source
        File or folder below the data set's folder that the reader is given.
    """

    marker: str
    format: str
    counts: Mapping[str, int]
    source: str = "."


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
    downloads
        Files to fetch; empty where the owner wants a form filled in.
    layouts
        Forms on disk, in order of preference; the first whose marker is there is read.
    folder
        Folder below ``PALATE_DATA`` (the name, unless said).
    has_split
        Whether train and test are given (:func:`palate.data.public.load_split`).
    """

    name: str
    title: str
    url: str
    licence: str
    layouts: tuple[Layout, ...]
    downloads: tuple[Download, ...] = ()
    folder: str = ""
    has_split: bool = False

    @property
    def counts(self) -> Mapping[str, int]:
        """Expected counts of the preferred layout."""
        return self.layouts[0].counts if self.layouts else MappingProxyType({})


def counts(users: int, items: int, interactions: int) -> Mapping[str, int]:
    """Return expected counts."""
    return MappingProxyType({"users": users, "items": items, "interactions": interactions})
