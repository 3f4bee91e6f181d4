"""Make the engines of the measured arms."""


def make_engine(role, config, seed):
    """Make a `MeasuredEngine`, imported where it runs: the driver needs no vLLM."""
    from measure.measured_engine import MeasuredEngine

    return MeasuredEngine(role, config, seed)
