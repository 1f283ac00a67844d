"""Finding candidates: exact and approximate search of vectors, search of words; fusing lists, and making them diverse."""
