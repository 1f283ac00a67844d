"""Finding candidates: exact top-k and indexes over vectors."""
