"""Run programs that a model wrote against unit tests, apart from the machine, or refuse."""
