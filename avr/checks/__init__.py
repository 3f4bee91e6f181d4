"""Check a machine or cluster before it is paid for: the project's own paths, on tiny models."""
