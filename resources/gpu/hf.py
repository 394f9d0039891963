"""torch and transformers, imported when first needed and without their noise."""

import gc
import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_MODULES = ("torch", "transformers", "transformers.modeling_utils", "transformers.activations")
"""What loading a model imports of the two, sooner or later."""


def import_transformers() -> Any:
    """The transformers module, with everything that a load would import later.

    The half million objects that the imports make are kept from the garbage collector meanwhile,
    and those made before for good: measured, a third less time.
    """
    if any(name not in sys.modules for name in _MODULES):
        with _gc_paused(), warnings.catch_warnings():
            # torch imports pynvml, whose package name is deprecated in favour of nvidia-ml-py.
            warnings.filterwarnings("ignore", message="The pynvml package is deprecated")
            for name in _MODULES:
                importlib.import_module(name)
    return sys.modules["transformers"]


@contextmanager
def _gc_paused() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """The transformers module, its progress bars off inside the block."""
    transformers = import_transformers()
    hf_logging = transformers.utils.logging
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        if shown:
            hf_logging.enable_progress_bar()
