"""Models meet protocols: evaluate, compare, tune, claims."""
