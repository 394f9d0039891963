"""torch and transformers, imported when first needed and without their noise."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[Any]:
    """The transformers module, its progress bars off inside the block."""
    with warnings.catch_warnings():
        # torch imports pynvml, whose package name is deprecated in favour of nvidia-ml-py.
        warnings.filterwarnings("ignore", message="The pynvml package is deprecated")
        import torch  # noqa: F401
        import transformers
    from transformers.utils import logging as hf_logging

    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        if shown:
            hf_logging.enable_progress_bar()
