"""A market of slates with known truth: items in groups on a sphere, people who move with what they click.

    group g      radius ρ_g ~ U(radius),  centre c_g = ρ_g · a random direction
    item i       v_i = c_g(i) + N(0, spread²)
    person u     z_u = centre of a favourite group + N(0, restless²),   z' = γ z + (1 - γ) v on a click
    click        softmax over the slate of  b (no click),  -scale ‖z - v_i‖

Source: the style of simulation of S. Eide, D. Leslie, A. Frigessi (Data Mining and Knowledge Discovery 36, 2022), in which the
model itself, with planted parameters, is the environment.

The logging policy fills a slate without repeats, each position in proportion to a weight of the items left (so its propensities
are known exactly): ``(1 - exploration) r_i^-skew / Σ + exploration / n``, ``r_i`` the rank of an item in a random order.
"""

from __future__ import annotations

from functools import cached_property
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from pydantic import Field

from palate.contracts.config import Config
from palate.data.dataset import Dataset, Entities
from palate.data.interactions import Interactions
from palate.data.vocabulary import Vocabulary
from palate.errors import DataError
from palate.kernels.slate_clicks import click_slates
from palate.runtime import generator


class SlateMarketConfig(Config):
    """What kind of market."""

    users: int = Field(1_000, ge=1, le=2**31 - 1, description="people")
    items: int = Field(300, ge=2, le=2**31 - 1, description="items of the catalogue")
    groups: int = Field(15, ge=1, description="groups of items")
    dim: int = Field(10, ge=1, description="length of the true vectors")
    radius: tuple[float, float] = Field((0.1, 0.8), description="least and largest distance of a group from the middle")
    spread: float = Field(0.1, ge=0, description="σ of items around their group, in each direction")
    restless: float = Field(0.1, ge=0, description="σ of people around their favourite group, in each direction")
    scale: float = Field(5.0, ge=0, description="factor of distances in the choice")
    no_click: float = Field(-3.0, description="logit of no click")
    gamma: float = Field(0.8, ge=0, le=1, description="how much of a state stays with a click")
    skew: float = Field(1.0, ge=0, le=3, description="power of the logging policy: the item of rank r weighs r^-skew")
    exploration: float = Field(0.1, gt=0, le=1, description="share of even weight in the logging policy")
    slate: int = Field(10, ge=1, description="items of a slate")
    seed: int = Field(0, ge=0, description="fixes everything")


class SlateMarket:
    """A market made from settings.

    Parameters
    ----------
    config
        The settings; or give them by name.

    Attributes
    ----------
    states
        ``float32[users, d]`` where people are now; :meth:`show` moves them.

    Examples
    --------
    >>> market = SlateMarket(users=50, items=40, groups=4, seed=1)
    >>> data = market.log(steps=3)
    >>> data.impressions.num_rows, data.n_items
    (1500, 40)
    """

    def __init__(self, config: SlateMarketConfig | None = None, **settings: object) -> None:
        base = {} if config is None else config.model_dump()
        self.config = SlateMarketConfig.parse({**base, **settings}, system="slate market")
        self.states = self._people("people", self.config.users)

    @cached_property
    def group(self) -> np.ndarray:
        """``int32[items]`` group of each item; all groups have about as many."""
        n, groups = self.config.items, self.config.groups
        return generator(self.config.seed, "market", "groups").permutation(np.arange(n) % groups).astype(np.int32)

    @cached_property
    def centres(self) -> np.ndarray:
        """``float32[groups, d]``."""
        c, rng = self.config, generator(self.config.seed, "market", "centres")
        direction = rng.standard_normal((c.groups, c.dim))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return (rng.uniform(*c.radius, (c.groups, 1)) * direction).astype(np.float32)

    @cached_property
    def vectors(self) -> np.ndarray:
        """``float32[items, d]``."""
        rng = generator(self.config.seed, "market", "items")
        noise = self.config.spread * rng.standard_normal((self.config.items, self.config.dim), np.float32)
        return self.centres[self.group] + noise

    @cached_property
    def weights(self) -> np.ndarray:
        """``float64[items]`` of the logging policy; they sum to one."""
        c = self.config
        rank = generator(c.seed, "market", "ranks").permutation(c.items) + 1.0
        popular = rank**-c.skew
        return np.asarray((1 - c.exploration) * popular / popular.sum() + c.exploration / c.items)

    @property
    def items(self) -> Entities:
        """The catalogue, with ``category``."""
        names = pa.array([f"group {g}" for g in self.group.tolist()])
        return Entities(Vocabulary.range(self.config.items), pa.table({"category": names}))

    def newcomers(self, n: int, *names: str | int) -> np.ndarray:
        """Put new people in the place of the first ``n``; return their numbers."""
        if n > self.config.users:
            raise DataError("there are fewer people.", where="newcomers", value=n, remedy=f"at most {self.config.users}")
        self.states[:n] = self._people("newcomers", n, *names)
        return np.arange(n, dtype=np.int32)

    def show(self, users: np.ndarray, slates: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Show slates ``int32[m, k]`` (-1 last) to people, in this order; return places clicked, from 1, 0 for nothing.

        Raises
        ------
        DataError
            If a number of a person or an item is out of range.
        """
        users, slates = np.ascontiguousarray(users, np.int32), np.ascontiguousarray(slates, np.int32)
        for numbers, n, what in ((users, len(self.states), "person"), (slates, self.config.items, "item")):
            low = 0 if what == "person" else -1
            if len(numbers) and (numbers.min() < low or numbers.max() >= n):
                raise DataError(f"there is no such {what}.", where="show", value=[int(numbers.min()), int(numbers.max())])
        c = self.config
        return click_slates(self.states, users, slates, self.vectors, rng.random(len(users)), c.scale, c.no_click, c.gamma)

    def logged_slates(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return slates of the logging policy ``int32[n, k]``, and their propensities ``float64[n, k]`` by position."""
        k = min(self.config.slate, self.config.items)
        with np.errstate(divide="ignore"):
            keys = np.log(self.weights) - np.log(-np.log(rng.random((n, self.config.items))))
        top = np.argpartition(-keys, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(keys, top, 1), axis=1)
        slates = np.take_along_axis(top, order, 1).astype(np.int32)
        own = self.weights[slates]
        before = np.concatenate([np.zeros((n, 1)), np.cumsum(own, axis=1)[:, :-1]], axis=1)
        return slates, own / (1 - before)

    def log(self, steps: int, *, part: str = "log", name: str = "slate-market") -> Dataset:
        """Let every person see ``steps`` slates of the logging policy; return what was shown and clicked.

        People go on from where they are. ``part`` names the stream of chance.
        """
        rng = generator(self.config.seed, "market", part)
        users = np.arange(self.config.users, dtype=np.int32)
        slates, propensities, clicks = [], [], []
        for _ in range(steps):
            shown, likely = self.logged_slates(len(users), rng)
            slates.append(shown)
            propensities.append(likely)
            clicks.append(self.show(users, shown, rng))
        columns = [np.stack(part, 1) for part in (slates, propensities, clicks)]
        return self.dataset(np.repeat(users, steps), *(c.reshape(-1, *c.shape[2:]) for c in columns), name=name)

    def dataset(
        self, users: np.ndarray, slates: np.ndarray, propensities: np.ndarray, clicks: np.ndarray, *, name: str = "slate-market"
    ) -> Dataset:
        """Return a data set of slates shown: clicks are its interactions, in the order given.

        Parameters
        ----------
        users
            ``int32[m]``; a person's slates in the order in which they were seen.
        slates, propensities
            ``int32[m, k]`` and ``float64[m, k]``.
        clicks
            ``int32[m]``, as :meth:`show` gives them.
        """
        m, k = slates.shape
        real = np.flatnonzero(clicks > 0)
        time = np.arange(m, dtype=np.int64)
        events = Interactions.sorted(users[real], slates[real, clicks[real] - 1], time=time[real])
        inside = (slates >= 0).ravel()
        each = {
            "impression": np.repeat(time, k),
            "user": np.repeat(users.astype(np.int32), k),
            "time": np.repeat(time, k),
            "position": np.tile(np.arange(1, k + 1, dtype=np.int16), m),
            "item": slates.ravel(),
            "propensity": propensities.ravel().astype(np.float32),
            "click": np.tile(np.arange(1, k + 1), m) == np.repeat(clicks, k),
        }
        people = Entities(Vocabulary.range(int(users.max(initial=-1)) + 1))
        table = pa.table({key: column[inside] for key, column in each.items()})
        step = ({"step": "slate market", **self.config.model_dump(mode="json"), "slates": m},)
        return Dataset(events, people, self.items, MappingProxyType({}), impressions=table, name=name, spec=step)

    def _people(self, *names: str | int) -> np.ndarray:
        """Return ``float32[n, d]`` states of new people; the second name is how many."""
        c, rng = self.config, generator(self.config.seed, "market", *names)
        favourite = rng.integers(c.groups, size=int(names[1]))
        noise = c.restless * rng.standard_normal((len(favourite), c.dim), np.float32)
        return np.ascontiguousarray(self.centres[favourite] + noise, np.float32)
