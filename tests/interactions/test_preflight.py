from pathlib import Path

import pytest

from forge_assets.gate import Decision, Open, Refuse, Wait
from forge_assets.interactions.preflight import Preflight, evaluate_preflight, weights_detail
from resources.errors import ConfigurationError, InfrastructureError
from resources.gpu.weights import WeightsInfo
from resources.machine_limits import Criterion

CONNECTIONS = Criterion("db connections", "go", "7 of 100 in use (2 active, 5 idle), limit 80 %")
NO_GPU = Criterion("gpu", "not_applicable", "none here and none configured")
FULL = Criterion("memory", "no_go", "3.0 of 16.0 GB available (19 %), at least 4 GB")


def evaluate(**changed: object) -> Preflight:
    inputs: dict = {
        "plan": "200 interactions",
        "plan_error": None,
        "gate": Open(),
        "previous": "canary-10",
        "weights": {"small": "LlamaForCausalLM, 269 MB"},
        "servers": {},
        "machine": [CONNECTIONS, NO_GPU],
    }
    return evaluate_preflight("ramp-50", **(inputs | changed))


def test_go_with_a_line_for_each_criterion() -> None:
    preflight = evaluate()
    assert preflight.go
    assert preflight.lines() == [
        "GO     plan            200 interactions",
        "GO     gate            canary-10 passed",
        "GO     weights small   LlamaForCausalLM, 269 MB",
        "GO     db connections  7 of 100 in use (2 active, 5 idle), limit 80 %",
        "n/a    gpu             none here and none configured",
        "GO for ramp-50",
    ]


@pytest.mark.parametrize(
    ("changed", "name", "detail"),
    [
        ({"plan": None, "plan_error": "{nope} is no field"}, "plan", "{nope} is no field"),
        ({"plan": None}, "plan", "could not be built"),
        ({"gate": Refuse("canary-10 has not run")}, "gate", "canary-10 has not run"),
        ({"gate": Wait("canary-10 is running")}, "gate", "canary-10 is running"),
        ({"gate": None}, "gate", "could not be evaluated"),
        (
            {"weights": {"small": ConfigurationError("models.small.source: no such file")}},
            "weights small",
            "models.small.source: no such file",
        ),
        (
            {"servers": {"far": InfrastructureError("models.far.url: no answer from http://far")}},
            "server far",
            "models.far.url: no answer",
        ),
        ({"machine": [FULL]}, "memory", "3.0 of 16.0 GB"),
    ],
)
def test_any_refusal_is_no_go(changed: dict[str, object], name: str, detail: str) -> None:
    preflight = evaluate(**changed)
    assert not preflight.go
    (refusal,) = preflight.refusals
    assert refusal.name == name
    assert detail in refusal.detail
    assert preflight.lines()[-1] == f"NO-GO for ramp-50: {name}"
    assert sum(line.startswith("NO-GO  ") for line in preflight.lines()) == 1


def test_the_first_stage_has_no_stage_before() -> None:
    gate: Decision = Open()
    preflight = evaluate(gate=gate, previous=None)
    assert preflight.go
    assert preflight.criteria[1].status == "not_applicable"


def test_nothing_looked_at_is_no_go() -> None:
    assert not Preflight("ramp-50", ()).go


def test_the_size_on_disk_is_the_most_that_is_loaded() -> None:
    info = WeightsInfo(
        path=Path("x"),
        source="package:x",
        sha256="0",
        bytes=538_000_000,
        stored_dtype="float32",
        architecture="LlamaForCausalLM",
        tokenizer="x",
        context_length=8192,
        parameters=134_515_008,
        converted=False,
        seconds=0.0,
    )
    assert weights_detail(info) == "LlamaForCausalLM, at most 538 MB, converted"
    assert weights_detail(None) == "found; the run converts them first"


def test_as_json() -> None:
    data = evaluate(machine=[FULL]).as_json()
    assert (data["stage"], data["go"]) == ("ramp-50", False)
    assert data["criteria"][-1] == {"name": "memory", "status": "no_go", "detail": FULL.detail}
