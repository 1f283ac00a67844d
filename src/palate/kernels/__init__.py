"""Hot loops, each twice: a plain reference and a fast form, tested equal."""
