"""Fitted: what everything that learns shares, whatever it learns from: settings, a record of the fit, and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from palate.contracts.bundle import Bundle, read_bundle, write_bundle
from palate.contracts.config import Config
from palate.data.dataset import Entities
from palate.data.histories import Histories
from palate.data.vocabulary import Vocabulary
from palate.errors import BundleError, ConfigError, NotFittedError, UnsupportedError
from palate.runtime import versions


@dataclass(frozen=True)
class FitRecord:
    """What is known about a finished fit; saved in the bundle."""

    seed: int
    seconds: float
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


class Fitted:
    """Base of everything that is fitted and saved.

    A subclass names itself, gives a :class:`Config` and implements ``_state`` and ``_restore``. The constructor only stores
    settings. Fitted attributes end in an underscore; ``record_`` is set last.
    """

    #: Name in the catalogue, such as ``"ease"``.
    name: ClassVar[str]
    #: The class of settings.
    Settings: ClassVar[type[Config]] = Config

    config: Config
    record_: FitRecord

    def __init__(self, config: Config | None = None, **settings: Any) -> None:
        if config is not None:
            settings = {**config.model_dump(), **settings}
        self.config = self.Settings.parse(settings, system=getattr(self, "name", type(self).__name__))

    def save(self, folder: str | Path, *, metrics: Mapping[str, Any] | None = None) -> Path:
        """Write a bundle (see :mod:`palate.contracts.bundle`): whole or not at all, no pickle."""
        self._check_fitted()
        manifest = {
            "system": self.name,
            "settings": self.config.model_dump(mode="json"),
            "data": dict(self.record_.data),
            "fit": {"seed": self.record_.seed, "seconds": self.record_.seconds, "notes": dict(self.record_.notes)},
            "metrics": dict(metrics or {}),
            "versions": versions(),
        }
        return write_bundle(folder, self._bundle(manifest))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a bundle of this system; use :func:`palate.load` where the system is not known."""
        return cls.from_bundle(read_bundle(folder), where=folder)

    @classmethod
    def from_bundle(cls, bundle: Bundle, *, where: str | Path = "") -> Self:
        """Restore what was fitted from the parts of a bundle."""
        system = bundle.manifest.get("system")
        if system != cls.name:
            raise BundleError(f"the bundle holds another system than {cls.name!r}.", where=where, value=system)
        try:
            model = cls(**bundle.manifest["settings"])
            fit = bundle.manifest["fit"]
            model.record_ = FitRecord(fit["seed"], fit["seconds"], bundle.manifest["data"], fit["notes"])
            model._take_back(bundle)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ConfigError) as error:
            raise BundleError(
                f"the bundle's parts don't make a {cls.name!r}.", where=where, value=str(error), remedy="fit and save it again"
            ) from error
        return model

    @property
    def fitted(self) -> bool:
        """Whether it has been fitted or loaded."""
        return hasattr(self, "record_")

    def _check_fitted(self) -> None:
        if not self.fitted:
            raise NotFittedError(f"{self.name} has not been fitted.", remedy="call fit, or load a bundle")

    def _bundle(self, manifest: Mapping[str, Any]) -> Bundle:
        """Return the parts of the bundle; what knows no people and items by id leaves these empty."""
        nobody = Entities(Vocabulary.range(0))
        return Bundle(manifest, self._state(), nobody, nobody, Histories.empty(0))

    def _take_back(self, bundle: Bundle) -> None:
        """Take back the parts of a bundle."""
        self._restore(bundle.state)

    def _state(self) -> dict[str, np.ndarray]:
        """Return every learnt array by name."""
        raise NotImplementedError

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back what ``_state`` gave."""
        raise NotImplementedError

    def _refuse(self, ability: str, remedy: str | None = None) -> UnsupportedError:
        return UnsupportedError(f"{self.name} can't {ability}.", remedy=remedy)

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in self.config.model_dump().items())
        return f"{type(self).__name__}({settings})"
