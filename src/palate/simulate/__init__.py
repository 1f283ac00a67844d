"""Simulated people and synthetic worlds with known truth."""
