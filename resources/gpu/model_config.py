"""One model of forge.yaml: where its weights come from and how they are run."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class ModelConfig(BaseModel):
    """The value of ``models.<key>`` in forge.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1)
    """``package:NAME`` (weights inside an installed package), a .gguf file, a hub folder, or org/name."""
    engine: Literal["transformers"] = "transformers"
    batching: Literal["auto", "static", "continuous"] = "auto"
    """``auto``: continuous on a GPU in bfloat16 or float16, else static."""
    dtype: Dtype = "auto"
    """``auto`` is measured on the device when the model is loaded."""
    revision: str | None = None
    """Branch, tag or commit; only for a hub id."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    max_context: int | None = Field(default=None, ge=16)
    """Prompt plus new tokens; the model's own limit when absent."""
    max_batch: int | None = Field(default=None, ge=1, le=4096)
    """Rows of one forward pass; chosen for the device when absent."""
    max_batch_tokens: int = Field(default=24576, ge=64)
    """Rows times (padded prompt + longest output) of one forward pass."""

    @field_validator("source")
    @classmethod
    def _strip(cls, value: str) -> str:
        stripped = value.strip()
        if not stripped:
            raise ValueError("is empty; name package:NAME, a .gguf file, a folder or org/name")
        return stripped
