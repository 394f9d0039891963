"""A converted model brought into memory, and what its configuration says of it."""

from typing import Any

from resources.errors import ConfigurationError
from resources.gpu.dtype_probe import DtypeChoice
from resources.gpu.hf import quiet_transformers
from resources.gpu.weights import WeightsInfo, first_line

SHAREABLE_LAYERS = {"full_attention"}
"""Whose rows may share the keys and values of a common beginning."""
_RUNNABLE_LAYERS = SHAREABLE_LAYERS | {"sliding_attention"}


def load_model(weights: WeightsInfo, dtype: DtypeChoice, model_key: str) -> tuple[Any, Any]:
    """The model in the host's memory and its tokenizer."""
    with quiet_transformers() as transformers:
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(weights.path)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                weights.path, dtype=dtype.name, attn_implementation="sdpa"
            )
        except MemoryError:
            raise
        except Exception as error:
            # Broken files fail anywhere in the readers, with anything, a bare Exception included.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ConfigurationError(
                f"models.{model_key}.source: transformers cannot load {weights.source}"
                f" ({weights.architecture}): {first_line(error)}; choose another model."
            ) from None
    return model.eval(), tokenizer


def layer_types(config: Any, model_key: str) -> set[str]:
    """Kinds of attention in the model. Raises ConfigurationError for kinds the static batches cannot run."""
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    if not kinds:
        kinds = {"sliding_attention" if getattr(text, "sliding_window", None) else "full_attention"}
    if not kinds <= _RUNNABLE_LAYERS:
        raise ConfigurationError(
            f"models.{model_key}.engine: transformers cannot run {', '.join(sorted(kinds - _RUNNABLE_LAYERS))}"
            " layers in batches here; choose another model."
        )
    return kinds


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end a text: the generation config's and the tokenizer's."""
    named = model.generation_config.eos_token_id
    tokens = set(named if isinstance(named, list) else [named])
    return {token for token in tokens | {tokenizer.eos_token_id} if token is not None}
