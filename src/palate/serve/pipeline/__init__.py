"""From a question to a slate: sources, filters, a ranker, a re-ranker, an explorer; every step leaves a trace."""
