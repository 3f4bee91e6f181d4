"""Define the algorithm with the standard library only: trees, growth, search, ratings."""
