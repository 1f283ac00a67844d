"""What the service holds in memory beside its store: the catalogue, people as they are now, trends, short-lived answers."""
