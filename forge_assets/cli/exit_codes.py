"""Exit codes of `forge` besides 0, 1 and 2."""

INTERRUPTED = 130
"""After Ctrl+C, as shells have it."""
READER_GONE = 141
"""When whoever read our output has closed it, as shells have it for SIGPIPE."""
