"""vLLM behind the two protocols of the algorithm, and the check that its rewards are right."""
