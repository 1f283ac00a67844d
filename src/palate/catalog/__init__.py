"""The table of all systems; classes load on demand."""
