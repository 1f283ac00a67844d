"""The command line: thin, no logic; one module a group of commands, heavy imports inside functions."""
