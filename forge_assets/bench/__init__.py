"""The same work done in several ways on this machine, measured."""
