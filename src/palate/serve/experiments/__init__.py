"""Experiments on live traffic, and what they say: assignment, outcomes, interleaving, off-policy estimates."""
