"""The relay through which the workers of a fit speak with the caller; a light module, as it has a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palate.errors import PalateError
    from palate.progress import ProgressEvent
    from palate.training.callbacks import EpochEvent


class Relay:
    """An actor that keeps what the first worker tells until the caller takes it, and the reason why all should stop."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.reason: PalateError | None = None

    def tell(self, event: ProgressEvent | EpochEvent) -> PalateError | None:
        """Keep an event; return why to stop, if that is so."""
        self.told.append(event)
        return self.reason

    def take(self) -> list[Any]:
        """Return the events since the last time."""
        told, self.told = self.told, []
        return told

    def stop(self, reason: PalateError) -> None:
        """Keep the first reason."""
        self.reason = self.reason or reason

    def stopped(self) -> PalateError | None:
        """Return the reason, if there is one."""
        return self.reason


def near(ray: Any) -> Any:
    """Start a relay on the caller's own node, so that no other node can take it along when it fails."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Relay).remote()
