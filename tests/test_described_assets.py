"""Owner, group, kind, description and code reference of every asset."""

import json
import subprocess
import sys
import warnings

import dagster as dg
import pytest

from forge_assets.config import project_root
from forge_assets.described_assets import OWNER, described
from forge_assets.interactions.assets import build_assets
from forge_assets.launches.assets import build_launches
from forge_assets.launches.monitor_assets import build_monitor_assets
from forge_assets.project import load_project

ROOT = project_root()


@pytest.fixture(scope="module")
def specs() -> dict[str, dg.AssetSpec]:
    project = load_project()
    assets = [*build_assets(project), build_launches(project), *build_monitor_assets(project)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = described(assets, project)
    assert [set(asset.keys) for asset in found] == [set(asset.keys) for asset in assets]
    checks = [set(asset.check_keys) for asset in found]
    assert checks == [set(asset.check_keys) for asset in assets]
    return {spec.key.to_user_string(): spec for asset in found for spec in asset.specs}


def references(spec: dg.AssetSpec) -> list[dg.LocalFileCodeReference]:
    found = spec.metadata["dagster/code_references"].code_references
    assert all(isinstance(one, dg.LocalFileCodeReference) for one in found)
    return list(found)


def test_every_asset_says_what_it_is_and_whose(specs: dict[str, dg.AssetSpec]) -> None:
    assert len(specs) == 15
    for name, spec in specs.items():
        assert spec.owners == [OWNER], name
        assert spec.description, name
        assert spec.kinds, name
        assert spec.group_name in ("inputs", "launches", "monitor", name.partition("/")[0]), name


def test_every_asset_leads_to_its_code(specs: dict[str, dg.AssetSpec]) -> None:
    for name, spec in specs.items():
        for reference in references(spec):
            lines = (ROOT / reference.file_path).read_text().splitlines()
            assert reference.line_number is not None
            assert lines[reference.line_number - 1].strip(), name
            assert not (reference.label or "/").startswith("/"), (
                "a name without this machine's folder"
            )


def test_a_step_leads_to_its_line_of_the_workflow(specs: dict[str, dg.AssetSpec]) -> None:
    for step in ("summarize", "classify", "grade", "rewrite"):
        first = references(specs[f"api_review/{step}"])[0]
        lines = (ROOT / first.file_path).read_text().splitlines()
        assert first.line_number is not None
        assert f"name: {step}" in lines[first.line_number - 1]
    assert references(specs["api_review/gate"])[0].line_number == 1


def test_no_word_about_beta_reaches_the_user() -> None:
    code = (
        "from forge_assets.project import load_project\n"
        "from forge_assets.interactions.assets import build_assets\n"
        "from forge_assets.described_assets import described\n"
        "import json, sys\n"
        "p = load_project(); described(build_assets(p), p)\n"
        "print(json.dumps([n for n in sys.modules if n.split('.')[0] in ('matplotlib', 'PIL')]))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    assert json.loads(ended.stdout) == [], "nothing is drawn to load the definitions"
