"""The machine's limits as forge.yaml sets them."""

from forge_assets.config import ForgeConfig
from resources.machine_limits import Limits


def limits_of(config: ForgeConfig) -> Limits:
    """In the shape that the monitor and the pre-flight take."""
    return Limits(**config.preflight.model_dump())
