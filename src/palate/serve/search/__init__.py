"""How the service finds items: by words, by meaning, by likeness."""
