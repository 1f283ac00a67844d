"""A made-up marketplace between people, in the very schema of MerRec (:mod:`palate.data.readers.merrec`).

**Products** are all combinations of a finest category, a brand of its branch, a style and a model, so none is stored. A
**listing** offers one product. With chance ``single_use`` a person meets one that nobody else ever sees; else one of the few
``slots`` of the product that people of the same block share. A listing dies when it is bought: whoever comes to its slot later
meets the next one, and what others would still have done with it does not happen.

**People** care for a few finest categories, for one brand of each branch and for one style. In a sequence they look for
something: the next listing is of the same product with chance ``hunt``, else of the same category with chance ``focus``. What
is viewed goes down the funnel with decreasing chances (``funnel``), likelier for the own brand and style.

**Titles** are brand, model, noun of the category, word of the style, and words that say nothing, in any order but for the
brand; some leave out brand or noun (``terse``). So they tell most of brand and category, and more. Brand and lower categories
are missing for some products.

Everything is drawn by blocks of people: :meth:`Marketplace.block` gives the events of one, :meth:`Marketplace.write` streams
all of them into a folder a month (that of a sequence's first event), :meth:`Marketplace.table` holds them in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from palate.contracts.config import Config
from palate.data.dataset import Dataset
from palate.data.readers.build import build
from palate.data.readers.merrec import EVENTS, Events, merrec_parts
from palate.data.readers.parts import Options
from palate.data.whole import whole_folder
from palate.errors import DataError
from palate.progress import Progress, ProgressEvent, silent
from palate.runtime import generator

#: The settings of a written marketplace.
SETTINGS = "marketplace.json"
CONDITIONS = ("New", "Like new", "Good", "Fair", "Poor")
SIZES = ("XS", "S", "M", "L", "XL")
SHIPPERS = ("Buyer", "Seller")
COLORS = ("black", "white", "red", "blue", "green", "pink")
NOISE = ("nwt", "euc", "rare", "bundle", "vintage", "sale", "new", "authentic", "fast", "ship", "cute", "lot", "must", "see")
#: Seconds between two listings of a sequence at least, and between two steps down the funnel at most.
PAUSE, STEP = 60, 8
#: Seconds of silence after which the app begins another session.
SILENCE = 1800


class MarketplaceConfig(Config):
    """What kind of marketplace."""

    users: int = Field(1_000, ge=1, le=2**31 - 1, description="people")
    seed: int = Field(0, ge=0, description="fixes everything")
    block: int = Field(4_096, ge=1, description="people of a block, who share listings; a file of each month holds one block")
    sequences: float = Field(3.0, ge=1, description="mean sequences of a person")
    length: float = Field(14.0, ge=1, description="mean listings met in a sequence")
    single_use: float = Field(0.9, ge=0, le=1, description="chance that a listing is seen by one person alone")
    slots: int = Field(1, ge=1, description="listings of a product that people of a block share at a time")
    branches: int = Field(6, ge=1, le=1_000, description="coarsest categories; each has `fan` children, which have as many")
    fan: int = Field(3, ge=1, le=100, description="children of a category")
    brands: int = Field(6, ge=1, le=1_000, description="brands of a branch")
    styles: int = Field(4, ge=1, le=100, description="styles, which only titles tell")
    models: int = Field(3, ge=1, le=1_000, description="models of a brand and style in a category")
    interests: int = Field(3, ge=1, description="finest categories that a person cares for")
    loyalty: float = Field(0.7, ge=0, le=1, description="chance of the own brand, and of the own style")
    hunt: float = Field(0.3, ge=0, le=1, description="chance that the next listing is of the same product")
    focus: float = Field(0.7, ge=0, le=1, description="chance that another product is of the same category")
    funnel: tuple[float, float, float, float, float] = Field(
        (0.25, 0.3, 0.5, 0.6, 0.7), description="chances of each step of the funnel after the one before"
    )
    missing: float = Field(
        0.15, ge=0, le=1, description="share of products without a brand, and of those without fine categories"
    )
    terse: float = Field(0.2, ge=0, le=1, description="share of titles without the brand, and of those without the noun")
    start: int = Field(1_682_899_200, ge=0, description="first second (2023-05-01)")
    days: float = Field(184.0, gt=0, description="days in which sequences begin")


@dataclass(frozen=True)
class Meetings:
    """People and listings, before what they do: one row a listing met, in order of person, sequence and time.

    Attributes
    ----------
    user, sequence, session, time, leaf, brand, style, model
        ``int64[n]``; brand counts within the branch of the leaf.
    fits
        ``int64[n]``: of brand and style, how many are the person's own.
    """

    user: np.ndarray
    sequence: np.ndarray
    session: np.ndarray
    time: np.ndarray
    leaf: np.ndarray
    brand: np.ndarray
    style: np.ndarray
    model: np.ndarray
    fits: np.ndarray


class Marketplace:
    """A marketplace made from settings.

    Parameters
    ----------
    config
        The settings; or give them by name.

    Examples
    --------
    >>> Marketplace(users=50, seed=1).dataset().n_users
    50
    """

    def __init__(self, config: MarketplaceConfig | None = None, **settings: Any) -> None:
        base = {} if config is None else config.model_dump()
        self.config = MarketplaceConfig.parse({**base, **settings}, system="marketplace")

    @property
    def n_blocks(self) -> int:
        """Number of blocks of people."""
        return -(-self.config.users // self.config.block)

    @property
    def n_leaves(self) -> int:
        """Finest categories."""
        return self.config.branches * self.config.fan**2

    @property
    def n_products(self) -> int:
        """Kinds of products."""
        c = self.config
        return self.n_leaves * c.brands * c.styles * c.models

    def block(self, number: int) -> pa.Table:
        """Return the events of one block of people in the schema of MerRec, sorted by person, sequence and time."""
        if not 0 <= number < self.n_blocks:
            raise DataError("there is no such block.", where="block", value=number, remedy=f"0 to {self.n_blocks - 1}")
        rng = generator(self.config.seed, "marketplace", number)
        met = self._meetings(number, rng)
        depth = self._depths(met, rng)
        item, dies = self._listings(number, met, depth, rng)
        return self._events(met, depth, item, dies)

    def table(self) -> pa.Table:
        """Return the events of all blocks."""
        return pa.concat_tables([self.block(number) for number in range(self.n_blocks)])

    def dataset(self, item: str = "item_id", session: str = "sequence_id") -> Dataset:
        """Return the events as a data set; items are listings (``item_id``) or products (``product_id``)."""
        options = Options(columns={"item": item, "session": session}, min_users=1)
        name = f"marketplace-{self.config.users}"
        made = build(merrec_parts([Events(self.table(), name)], options, name), options, name)
        return made.derive({"step": "marketplace", **self.config.model_dump(mode="json")})

    def write(self, folder: str | Path, *, progress: Progress = silent) -> Path:
        """Stream the events to ``20230501/000000000000.parquet`` and so on; the folder appears whole or not at all."""
        target = Path(folder)
        if target.exists():
            raise DataError("the folder exists already.", where=target, remedy="name a new one")
        with whole_folder(target, SETTINGS) as work:
            for number in range(self.n_blocks):
                table = self.block(number)
                for month, rows in _months(table):
                    (work / month).mkdir(exist_ok=True)
                    pq.write_table(rows, work / month / f"{number:012d}.parquet", compression="zstd")
                progress(ProgressEvent("marketplace: write", number + 1, self.n_blocks))
            (work / SETTINGS).write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return target

    # -- what people meet -----------------------------------------------------------------------

    def _meetings(self, number: int, rng: np.random.Generator) -> Meetings:
        c = self.config
        people = np.arange(number * c.block, min((number + 1) * c.block, c.users), dtype=np.int64)
        leaves = rng.integers(self.n_leaves, size=(len(people), c.interests))
        shares = np.cumsum(rng.dirichlet(np.ones(c.interests), len(people)), axis=1)
        own_brand = rng.integers(c.brands, size=(len(people), c.branches))
        own_style = rng.integers(c.styles, size=len(people))
        sequences = 1 + rng.poisson(c.sequences - 1, len(people))
        owner = np.repeat(np.arange(len(people)), sequences)
        lengths = 1 + rng.poisson(c.length - 1, len(owner))
        row = np.repeat(np.arange(len(owner)), lengths)
        who = owner[row]
        first = np.append(True, row[1:] != row[:-1])
        n = len(row)
        wanted = (rng.random(n)[:, None] > shares[who]).sum(1).clip(max=c.interests - 1)
        fresh_leaf = first | (rng.random(n) >= c.focus)
        fresh = first | (rng.random(n) >= c.hunt)
        leaf = _held(leaves[who, wanted], fresh_leaf & fresh, first)
        branch = leaf // c.fan**2
        brand = np.where(rng.random(n) < c.loyalty, own_brand[who, branch], rng.integers(c.brands, size=n))
        style = np.where(rng.random(n) < c.loyalty, own_style[who], rng.integers(c.styles, size=n))
        model = rng.integers(c.models, size=n)
        brand, style, model = (_held(x, fresh, first) for x in (brand, style, model))
        gaps = PAUSE + rng.exponential(240.0, n).astype(np.int64)
        gaps += (rng.random(n) < 0.05) * SILENCE
        begins = c.start + (rng.random(len(owner)) * c.days * 86_400).astype(np.int64)
        begins = begins[np.lexsort((begins, owner))]
        time = begins[row] + _summed(np.where(first, 0, gaps), first)
        session = np.cumsum(first | (gaps > SILENCE)) - 1
        fits = (brand == own_brand[who, branch]).astype(np.int64) + (style == own_style[who])
        sequence = row - np.searchsorted(owner, owner)[row]
        return Meetings(people[who], sequence, session + number * 10**9, time, leaf, brand, style, model, fits)

    def _depths(self, met: Meetings, rng: np.random.Generator) -> np.ndarray:
        """Return ``int64[n]``: how far down the funnel each meeting goes by itself (0 is a view)."""
        depth = np.zeros(len(met.time), np.int64)
        going = np.ones(len(depth), bool)
        for step, chance in enumerate(self.config.funnel, 1):
            liking = np.array([0.5, 1.0, 1.6])[met.fits] if step == 1 else 1.0
            going &= rng.random(len(depth)) < np.minimum(chance * liking, 1.0)
            depth[going] = step
        return depth

    def _products(self, met: Meetings) -> np.ndarray:
        c = self.config
        return np.asarray(((met.leaf * c.brands + met.brand) * c.styles + met.style) * c.models + met.model)

    def _listings(
        self, number: int, met: Meetings, depth: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return ``int64[n]`` listings, and when each is bought (far in the future where it is not)."""
        n = len(depth)
        alone = rng.random(n) < self.config.single_use
        slot = self._products(met) * self.config.slots + rng.integers(self.config.slots, size=n)
        order = np.lexsort((np.arange(n), met.time, slot))
        order = order[~alone[order]]
        s = slot[order]
        begins = np.append(True, s[1:] != s[:-1]) if len(s) else np.empty(0, bool)
        bought = depth[order] == len(EVENTS) - 1
        fresh = begins | np.append(False, bought[:-1]) if len(s) else begins  # after a sale the slot holds another listing
        listing = np.empty(n, np.int64)
        listing[alone] = np.arange(alone.sum())
        listing[order] = alone.sum() + np.cumsum(fresh) - 1
        mixed = generator(self.config.seed, "listings", number).permutation(int(listing.max(initial=-1)) + 1)
        listing = mixed[listing]  # numbers don't tell when, or by how many, a listing was seen
        dies = np.full(len(mixed), np.iinfo(np.int64).max)
        sold = depth == len(EVENTS) - 1
        dies[listing[sold]] = met.time[sold] + (len(EVENTS) - 1) * STEP
        return listing + number * 10**8, dies[listing]

    def _events(self, met: Meetings, depth: np.ndarray, item: np.ndarray, dies: np.ndarray) -> pa.Table:
        rows = np.repeat(np.arange(len(depth)), depth + 1)
        step = np.arange(len(rows)) - np.repeat(np.cumsum(depth + 1) - depth - 1, depth + 1)
        time = met.time[rows] + step * STEP
        seller_wins = (time <= dies[rows]) | (depth[rows] == len(EVENTS) - 1)
        rows, step, time = rows[seller_wins], step[seller_wins], time[seller_wins]
        key = met.user[rows] << 16 | met.sequence[rows]
        _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
        columns: dict[str, Any] = {
            "user_id": met.user[rows],
            "sequence_id": pa.array([f"{s}" for s in met.sequence[rows].tolist()]),
            "session_id": pa.array([f"s{s}" for s in met.session[rows].tolist()]),
            "stime": pa.array(time * 1_000_000, pa.timestamp("us")),
            "sequence_length": counts[inverse],
            "event_id": pa.array(EVENTS).take(pa.array(step)),
            "item_id": item[rows],
            "product_id": pa.array([f"p{p}" for p in self._products(met)[rows].tolist()]),
        }
        looks = self._looks(met, item)
        return pa.table({**columns, **{name: column.take(pa.array(rows)) for name, column in looks.items()}})

    # -- what listings look like ----------------------------------------------------------------

    def _looks(self, met: Meetings, item: np.ndarray) -> dict[str, pa.Array]:
        """Return the attributes of the listing of each meeting: the same wherever it is met."""
        c, words = self.config, self._words
        known, at = np.unique(item, return_index=True)
        _, row = np.unique(item, return_inverse=True)
        leaf, branch = met.leaf[at], met.leaf[at] // c.fan**2
        brand = branch * c.brands + met.brand[at]
        product = self._products(met)[at]
        prices, hidden = self._known_of_products
        rng = generator(c.seed, "looks", int(known[0]) if len(known) else 0)
        model = (brand * c.styles + met.style[at]) * c.models + met.model[at]
        price = np.round(prices[product] * rng.lognormal(0, 0.2, len(known)), 2)
        fine, middle = hidden[1, product], hidden[2, product]
        told = rng.random((2, len(known))) >= c.terse
        first, noun = (np.where(t, w, "") for t, w in zip(told, (words["brands"][brand], words["nouns"][leaf]), strict=True))
        titles = _titles((first, words["models"][model % 997], noun, words["styles"][met.style[at]]), rng)
        values: dict[str, pa.Array] = {"name": pa.array(titles), "price": pa.array(price)}
        levels = ((branch, "branches", None), (leaf // c.fan, "middles", middle), (leaf, "leaves", fine | middle))
        for level, (number, name, gone) in enumerate(levels):
            values[f"c{level}_id"] = pa.array(number, mask=gone)
            values[f"c{level}_name"] = pa.array(words[name][number].tolist(), pa.string(), mask=gone)
        values["brand_id"] = pa.array(brand, mask=hidden[0, product])
        values["brand_name"] = pa.array(words["brands"][brand].tolist(), pa.string(), mask=hidden[0, product])
        for name, choices, share in (("item_condition", CONDITIONS, 0.0), ("size", SIZES, 0.4), ("shipper", SHIPPERS, 0.0)):
            code, gone = rng.integers(len(choices), size=len(known)), rng.random(len(known)) < share
            values[f"{name}_id"] = pa.array(code, mask=gone)
            values[f"{name}_name"] = pa.array([choices[k] for k in code], pa.string(), mask=gone)
        values["color"] = pa.array([COLORS[k] for k in rng.integers(len(COLORS), size=len(known))], pa.string())
        return {name: column.take(pa.array(row)) for name, column in values.items()}

    @cached_property
    def _known_of_products(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ``float64[n]`` usual prices, and ``bool[3, n]``: brand, finest and middle category are missing."""
        rng, n = generator(self.config.seed, "products"), self.n_products
        return np.exp(rng.normal(3.0, 0.7, n)), rng.random((3, n)) < np.array([[1.0], [0.6], [0.3]]) * self.config.missing

    @cached_property
    def _words(self) -> dict[str, np.ndarray]:
        """Made-up words; only those of models stand for several things."""
        c, rng = self.config, generator(self.config.seed, "marketplace words")
        sizes = {
            "brands": c.branches * c.brands,
            "nouns": self.n_leaves,
            "styles": c.styles,
            "branches": c.branches,
            "middles": c.branches * c.fan,
            "models": 997,
        }
        syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "ai", "or", "el")]
        found: dict[str, None] = {}
        while len(found) < sum(sizes.values()):
            picks = rng.integers(len(syllables), size=(sum(sizes.values()), 3))
            found.update(dict.fromkeys("".join(syllables[k] for k in row) for row in picks))
        flat, out, start = np.array(list(found), dtype=object), {}, 0
        for name, size in sizes.items():
            out[name] = flat[start : start + size]
            start += size
        out["leaves"] = out["nouns"]
        return out


def _held(values: np.ndarray, fresh: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return values that stay what they were until they are fresh; a first one always is."""
    at = np.where(fresh | first, np.arange(len(values)), 0)
    return np.asarray(values[np.maximum.accumulate(at)])


def _summed(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return running sums that begin anew at each first one (which is 0)."""
    total = np.cumsum(values)
    return np.asarray(total - total[np.maximum.accumulate(np.where(first, np.arange(len(values)), 0))])


def _titles(parts: tuple[np.ndarray, ...], rng: np.random.Generator) -> list[str]:
    """Return a title for each row: the first part, then the others and up to three words that say nothing, shuffled."""
    noise = rng.integers(4, size=len(parts[0]))
    orders = rng.random((len(parts[0]), len(parts) + 2))
    words = rng.integers(len(NOISE), size=(len(parts[0]), 3))
    out = []
    for row, (lead, *rest) in enumerate(zip(*parts, strict=True)):
        own = [*(word for word in rest if word), *(NOISE[k] for k in words[row, : noise[row]])]
        own = [own[k] for k in np.argsort(orders[row, : len(own)], kind="stable")]
        out.append(" ".join([lead, *own]).strip().capitalize())
    return out


def _months(table: pa.Table) -> list[tuple[str, pa.Table]]:
    """Return the rows of each month, a sequence in that of its first event."""
    user, sequence = table.column("user_id").to_numpy(), np.asarray(table.column("sequence_id").to_pylist())
    month = table.column("stime").to_numpy().astype("datetime64[M]")
    begins = np.append(True, (user[1:] != user[:-1]) | (sequence[1:] != sequence[:-1]))
    month = month[np.maximum.accumulate(np.where(begins, np.arange(len(user)), 0))]
    return [(str(m).replace("-", "") + "01", table.filter(pa.array(month == m))) for m in np.unique(month)]
