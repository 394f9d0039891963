"""From a model's configuration to its engine. What an engine needs is imported when it is opened."""

import importlib.util

from resources.errors import ConfigurationError
from resources.gpu.engines.base import Engine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weights import WeightsInfo


def installed_engines(config: ModelConfig) -> list[str]:
    """Engines that can load the model's weights here, the usual one first."""
    engines = ["transformers"]
    if config.device != "cpu" and importlib.util.find_spec("vllm") is not None:
        engines.append("vllm")
    return engines


def require_engine(model_key: str, config: ModelConfig) -> None:
    """ConfigurationError when the configured engine is not installed here."""
    if config.engine == "vllm" and importlib.util.find_spec("vllm") is None:
        raise ConfigurationError(
            f"models.{model_key}.engine: vllm is not installed; pip install -e '.[vllm]' or write"
            " transformers."
        )


def open_engine(
    model_key: str, config: ModelConfig, weights: WeightsInfo, on_host: bool = False
) -> Engine:
    """Load the weights into an engine of this machine; ``on_host``: ready only after ``resume``.

    Raises ConfigurationError when the model cannot run here.
    """
    if config.engine == "vllm":
        from resources.gpu.engines.vllm_engine import open_vllm

        return open_vllm(model_key, config, weights)
    from resources.gpu.engines.transformers_engine import TransformersEngine

    return TransformersEngine(config, weights, model_key, on_host)


def connect_engine(model_key: str, config: ModelConfig) -> Engine:
    """The engine of a model that a server holds. Raises ConfigurationError when the server lacks it."""
    from resources.gpu.engines.openai_http import OpenAIHttpEngine

    return OpenAIHttpEngine(config, model_key)
