"""The HTTP side: what comes in is checked, what goes out has a schema, and nothing of the inside leaks."""
