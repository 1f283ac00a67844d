"""Back ends of :class:`palate.language.encoder.TextEncoder`, one a file."""
