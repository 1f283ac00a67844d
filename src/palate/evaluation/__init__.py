"""Metrics, significance and reports; knows arrays and splits, never a model."""
