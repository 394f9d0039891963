"""Errors that end a command with one sentence instead of a traceback."""

from resources.plain_text import sentence


class ForgeError(Exception):
    """A condition that the caller must act on.

    The message is one sentence that names what is wrong, where, and the fix.
    ``exit_code`` is what the ``forge`` command returns: 1 the answer is no, 2 usage or configuration.
    """

    exit_code: int = 1

    def __init__(self, message: object = "") -> None:
        # Here, once for every way that leads to a terminal or a log: a sentence quotes foreign text.
        super().__init__(sentence(str(message)))


class ConfigurationError(ForgeError):
    """Bad input from the user: a file, a field, an environment variable. Nothing was changed."""

    exit_code = 2


class Refusal(ForgeError):
    """The request is well formed and the answer is no: a closed gate, a failed check."""


class InfrastructureError(ForgeError):
    """Something outside failed for longer than the bounded retries; what was committed stays committed."""
