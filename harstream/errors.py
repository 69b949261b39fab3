"""The errors a caller may want to tell apart, each saying whose fault it is."""


class HarstreamError(Exception):
    """Anything harstream refuses to do, with a message for the person who asked."""


class ConfigError(HarstreamError):
    """What the operator asked for makes no sense: a flag, a key, a signal definition."""


class BundleError(HarstreamError):
    """A model bundle is missing, damaged, or does not do what it says."""


class BrokerError(HarstreamError):
    """The broker refused us: credentials, certificate, protocol or subscription."""


class DatasetError(HarstreamError):
    """A recording is missing or malformed; the message names the file and line."""
