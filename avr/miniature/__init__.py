"""Provide a small list-writing world with an exact oracle, and three tiny models trained in it."""
