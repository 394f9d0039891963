"""One model of forge.yaml: where its weights come from and how they are run."""

import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
EngineName = Literal["auto", "transformers", "vllm", "openai_http"]

_MOST_NAME = 255
_REVISION = re.compile(r"[A-Za-z0-9][\w./+-]*")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")


class ModelConfig(BaseModel):
    """A model: where its weights come from and how they are run."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "if": {"properties": {"engine": {"const": "openai_http"}}, "required": ["engine"]},
            "then": {"required": ["url"]},
        },
    )

    source: str = Field(
        min_length=1,
        description="`package:NAME` (weights inside an installed package), a `.gguf` file, a model"
        " folder with safetensors, or `org/name` on the hub. With `openai_http` the model's name at"
        " the server.",
    )
    engine: EngineName = Field(
        default="auto",
        description="`transformers`, `vllm` (where it is installed), `openai_http` (a server that"
        " speaks OpenAI's chat protocol), or `auto`: the installed one that is predicted to end the"
        " work first; never a server.",
    )
    url: str | None = Field(
        default=None,
        description="Only with `openai_http`, and needed: base of the server, such as"
        " `http://127.0.0.1:11434/v1`, `http` or `https`, without a key or password.",
    )
    api_key_env: str | None = Field(
        default=None,
        description="Only with `openai_http`: name of the environment variable that holds the"
        " server's key.",
    )
    timeout: float = Field(
        default=120,
        gt=0,
        le=86400,
        description="Only with `openai_http`: seconds for one request.",
    )
    batching: Literal["auto", "static", "continuous"] = Field(
        default="auto",
        description="`static`: rows start together. `continuous`: a row that has ended gives its"
        " place to the next. `auto` is continuous on a GPU in bfloat16 or float16, for models without"
        " sliding windows, else static.",
    )
    dtype: Dtype = Field(
        default="auto",
        description="Precision of the weights. `auto` is measured on the processor, and goes by"
        " capability on a GPU.",
    )
    revision: str | None = Field(default=None, description="Branch, tag or commit of a hub model.")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$",
        description="`auto` (a GPU where there is one), `cpu`, `cuda` or `cuda:N`.",
    )
    max_context: int | None = Field(
        default=None,
        ge=16,
        description="Prompt and new tokens together; the model's own limit stays in force.",
    )
    max_batch: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Rows of one batch; 64 when absent (512 if continuous), halved when memory runs"
        " out. Of a server: the most requests at once of one process, 64 when absent.",
    )
    max_batch_tokens: int | None = Field(
        default=None,
        ge=64,
        description="Rows times columns of one batch; 24,576 when absent, on a GPU what half of its free"
        " memory holds. Continuous on a GPU: what its memory holds, whatever is written here.",
    )

    @property
    def served(self) -> bool:
        """A server holds the model: there are no weights, no device and no load here."""
        return self.engine == "openai_http"

    @property
    def host(self) -> str:
        """host:port of the server; the port is left out where the URL leaves it out."""
        return urlsplit(self.url or "").netloc

    @field_validator("source")
    @classmethod
    def _strip(cls, value: str) -> str:
        stripped = value.strip()
        if not stripped.isprintable():
            raise ValueError("holds control characters; write the name alone")
        if any(len(part.encode()) > _MOST_NAME for part in stripped.split("/")):
            raise ValueError(f"holds a name of over {_MOST_NAME} bytes, which no file has")
        if not stripped:
            raise ValueError("is empty; name package:NAME, a .gguf file, a folder or org/name")
        return stripped

    # Validators of a field run only where the file gives a value, after the fields above it.

    @field_validator("url", "api_key_env", "timeout")
    @classmethod
    def _only_served(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("engine", "openai_http") != "openai_http":
            raise ValueError("is only for a server; write engine: openai_http, or remove it")
        return value

    @field_validator(
        "batching", "dtype", "revision", "device", "max_context", "max_batch_tokens", mode="before"
    )
    @classmethod
    def _only_here(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("engine") == "openai_http":
            raise ValueError(
                "means nothing with engine: openai_http, the server decides; remove it"
            )
        return value

    @field_validator("revision")
    @classmethod
    def _inside_its_folder(cls, value: str | None) -> str | None:
        # The hub's cache names folders and files by it.
        if value is not None and (not _REVISION.fullmatch(value) or ".." in value):
            raise ValueError("is no branch, tag or commit; copy its name from the hub")
        return value

    @field_validator("url")
    @classmethod
    def _base_url(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value.strip())

    @field_validator("api_key_env")
    @classmethod
    def _variable_name(cls, value: str | None) -> str | None:
        # Not repeated in the message: it may be the key itself.
        if value is not None and not _VARIABLE.fullmatch(value):
            raise ValueError(
                "is no name of an environment variable (capital letters, digits, '_'); write the"
                " variable's name here and the key into the environment"
            )
        return value

    @model_validator(mode="after")
    def _needs_url(self) -> Self:
        if self.served and self.url is None:
            raise ValueError("engine openai_http needs a url; add such as url: http://HOST:PORT/v1")
        return self


def _checked_url(text: str) -> str:
    """The base without a slash at its end. ValueError, which shows no part of it, when it is none."""
    example = "write http://HOST:PORT/v1 or https://HOST/v1"
    try:
        url = urlsplit(text)
        usable = bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable or not text.isprintable() or " " in text:
        raise ValueError(f"is no URL; {example}")
    if url.scheme not in ("http", "https"):
        raise ValueError(f"should begin with http:// or https://; {example}")
    if "@" in url.netloc or url.query or url.fragment:
        raise ValueError(
            "holds a user, a password or parameters; remove them, and name the variable that holds"
            " the key in api_key_env"
        )
    base = text.rstrip("/")
    if base.endswith("/chat/completions"):
        raise ValueError(f"should end before /chat/completions; {example}")
    return base
