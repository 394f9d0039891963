"""The reference of the files, the command and the environment, and JSON schemas for editors: all made
from the code. ``python -m forge_assets.reference`` writes them below docs/."""
