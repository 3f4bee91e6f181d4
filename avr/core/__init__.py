"""The core algorithm: trees, growth, search, ratings. It uses the standard library only."""
