"""Tables, vocabularies, splits, readers and public data sets."""
