"""Run vLLM behind the two protocols of the algorithm, and check that its rewards are right."""
