"""Sensors: thin decorators over pure functions with an injected clock."""
