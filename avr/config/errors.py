"""Define the error of a configuration that cannot be used."""


class ConfigError(ValueError):
    """Signal an unusable configuration; the message says where, and what would be right."""
