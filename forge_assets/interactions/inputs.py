"""What the assets `subjects` and `model_weights` do."""

import dagster as dg

from forge_assets.console import Say
from forge_assets.interactions import presence
from forge_assets.interactions.ingest import ingest_subjects
from forge_assets.markdown import code, plain
from forge_assets.project import Project, WorkflowPlan, naming_forge_yaml
from resources.dagster_storage import require_forge_instance
from resources.database import open_engine
from resources.gpu.engines.opening import require_engine
from resources.gpu.weight_source import resolve_source
from resources.gpu.weights import WeightsInfo, ensure_weights, weights_present
from resources.interaction_store import InteractionStore


def materialize_subjects(
    project: Project, instance: dg.DagsterInstance, run_id: str, say: Say
) -> dg.MaterializeResult:
    """Ingests the configured source; the metadata counts what changed and what was passed over."""
    require_forge_instance(instance)
    engine = open_engine()
    presence.hold(engine, run_id)
    find_weights(project)
    ingestion = ingest_subjects(project, InteractionStore(engine), say)
    report = ingestion.report
    bad = "\n".join(f"- {code(record.where)} {plain(record.reason)}" for record in ingestion.bad)
    return dg.MaterializeResult(
        metadata={
            "dataset": project.config.dataset,
            "subjects": report.total,
            "inserted": report.inserted,
            "changed": report.changed,
            "unchanged": report.unchanged,
            "absent": report.absent,
            "duplicates": report.duplicates,
            "passed over": ingestion.bad_count,
            "passed over, first ones": dg.MetadataValue.md(bad or "none"),
        }
    )


def used_models(project: Project) -> list[str]:
    """Model keys of every workflow, in the order of first use."""
    plans = [WorkflowPlan(project, workflow) for workflow in project.workflows]
    return list(dict.fromkeys(model for plan in plans for model in plan.models))


def find_weights(project: Project) -> None:
    """ConfigurationError for a model whose engine, weights, or server's key are nowhere.

    Fetches and converts nothing, and asks no server.
    """
    from resources.gpu.engines.openai_server import OpenAIServer

    with naming_forge_yaml(project.config):
        for key in used_models(project):
            config = project.config.models[key]
            require_engine(key, config)
            if config.served:
                OpenAIServer(config, key)
            else:
                resolve_source(config.source, config.revision, key)


def present_weights(project: Project, model: str) -> WeightsInfo | None:
    """The converted copy of a model's weights, if it is there; converts nothing."""
    config = project.config.models[model]
    require_engine(model, config)
    return weights_present(config.source, revision=config.revision, model_key=model)


def server_state(project: Project, model: str) -> str:
    """What the server of a model says, asked once. ForgeError with the sentence to act on."""
    from resources.gpu.engines.openai_server import OpenAIServer

    with naming_forge_yaml(project.config):
        return OpenAIServer(project.config.models[model], model).find_model()


def wait_for_server(project: Project, model: str) -> None:
    """Returns when the model's server answers and has it; ForgeError after bounded tries."""
    from resources.gpu.engines.openai_server import OpenAIServer, Patience

    with naming_forge_yaml(project.config):
        OpenAIServer(project.config.models[model], model).wait_for_model(Patience())


def materialize_weights(project: Project, run_id: str, say: Say) -> dg.MaterializeResult:
    """Converts what is not converted yet; the metadata lists every model, a server's too."""
    presence.hold(open_engine(), run_id)
    columns = [
        "model",
        "source",
        "architecture",
        "parameters",
        "MB",
        "dtype",
        "context",
        "tokenizer",
    ]
    records = []
    for key in used_models(project):
        config = project.config.models[key]
        if config.served:
            place = {
                "model": key,
                "source": config.source,
                "architecture": f"served by {config.host}",
            }
            records.append(dg.TableRecord(dict.fromkeys(columns) | place))
            continue
        with naming_forge_yaml(project.config):
            info = ensure_weights(config.source, revision=config.revision, model_key=key)
        if info.converted:
            say(f"converted the weights of {key} in {info.seconds:.1f} s")
        values: list[str | int | float | None] = [
            key,
            config.source,
            info.architecture,
            info.parameters,
            round(info.bytes / 1e6, 1),
            info.stored_dtype,
            info.context_length,
            info.tokenizer,
        ]
        records.append(dg.TableRecord(dict(zip(columns, values, strict=True))))
    schema = dg.TableSchema([dg.TableColumn(name, _column_type(name)) for name in columns])
    return dg.MaterializeResult(
        metadata={"models": dg.MetadataValue.table(records, schema), "count": len(records)}
    )


def _column_type(name: str) -> str:
    return {"parameters": "int", "context": "int", "MB": "float"}.get(name, "string")
