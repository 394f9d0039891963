"""Exit codes of `forge`."""

from collections.abc import Mapping

from resources.errors import ConfigurationError, Refusal

INTERRUPTED = 130
"""After Ctrl+C, as shells have it."""
READER_GONE = 141
"""When whoever read our output has closed it, as shells have it for SIGPIPE."""

MEANINGS: Mapping[int, str] = {
    0: "Done, or the answer is yes.",
    Refusal.exit_code: "The answer is no: a gate is closed, a check failed, a launch failed, something"
    " outside stayed away.",
    ConfigurationError.exit_code: "Usage or configuration error; the sentence says what to correct.",
    INTERRUPTED: "Stopped by Ctrl+C. The same command goes on.",
    READER_GONE: "Whoever read the output closed it.",
}
