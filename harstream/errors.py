"""Errors that harstream raises. The class says where the mistake is; the message is shown to the operator."""

#: Length to which ``one_line`` cuts.
_MAX_CHARACTERS = 500


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


def one_line(text: object) -> str:
    """Return a foreign text, such as the message of a library's error, as one printable line that is not too long."""
    line = " ".join(str(text).split())
    if len(line) > _MAX_CHARACTERS:
        line = f"{line[:_MAX_CHARACTERS]}..."
    return line if line.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
