"""The algorithm, in the standard library only: trees, growth, selection, pairs."""
