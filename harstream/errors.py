"""Errors that harstream raises. The class says where the mistake is; the message is shown to the operator."""


class HarstreamError(Exception):
    """Base class of the errors below."""


class ConfigError(HarstreamError):
    """An option, a setting or a signal definition is not allowed."""


class BundleError(HarstreamError):
    """A model bundle is missing or damaged, or its model does not reproduce its stored results."""


class BrokerError(HarstreamError):
    """The broker cannot be reached, or it refuses the credentials, certificate, protocol version or subscription."""


class DatasetError(HarstreamError):
    """A recording is missing, malformed or cannot be written. The message names the file and, if known, the line."""
