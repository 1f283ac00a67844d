"""Past one machine: fitting, answering in bulk, tuning and serving on a Ray cluster. One machine needs none of it."""
