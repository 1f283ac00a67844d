"""Rows for rankers: of a request, and of the service's own log."""
