"""The error of a configuration that cannot be used."""


class ConfigError(ValueError):
    """An error for an unusable configuration; the message says where, and what would be right."""
