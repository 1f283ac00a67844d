"""The pages, one file each; importing them makes their routes."""

from palate.console.pages import data, experiments, items, models, overview, people, systems

__all__ = ["data", "experiments", "items", "models", "overview", "people", "systems"]
