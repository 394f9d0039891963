"""`forge trace`: everything about one subject or one interaction."""

import json

from forge_assets.cli.open import open_store, out
from forge_assets.interactions.trace import interaction_markdown, subject_markdown, trace_json
from forge_assets.project import load_project
from resources.errors import ConfigurationError


def show(what: str, as_json: bool) -> int:
    """A subject key goes first: a key may look like a number."""
    store = open_store()
    dataset = load_project().config.dataset
    subject = store.trace(dataset, None, what)
    if subject is not None:
        out(json.dumps(trace_json(subject), indent=2) if as_json else subject_markdown(subject))
        return 0
    interaction = store.get_interaction_by_id(int(what)) if what.isdecimal() else None
    if interaction is None:
        raise ConfigurationError(
            f"{what}: no subject of {dataset} has this key, no interaction this id"
        )
    out(
        json.dumps(trace_json(interaction), indent=2)
        if as_json
        else interaction_markdown(interaction)
    )
    return 0
