"""docs/reference/environment.md."""

from collections.abc import Mapping

from forge_assets.reference import variables
from forge_assets.reference.sections import NOTE, table

_TOP = f"""\
{NOTE}

# Environment variables: reference

Secrets stand here and nowhere else."""

_SECTIONS = (
    ("The project", "Empty is as good as not set.", variables.PROJECT),
    ("Named in your files", "You choose these names.", variables.NAMED_BY_YOU),
    ("Launches", "Empty is as good as not set.", variables.LAUNCHES),
    (
        "Emulators",
        "To point the Google clients elsewhere. Such an address gets plain text and no credentials.",
        variables.EMULATORS,
    ),
    ("The machine", "", variables.MACHINE),
    ("In the runner and the jobs", "", variables.RUNNER),
    ("In a deployment", "Read by the files in `deploy`.", variables.DEPLOYED),
    ("Read by libraries", "Not by our own code.", variables.LIBRARIES),
)


def environment_page() -> str:
    return "\n\n".join((_TOP, *(_section(*each) for each in _SECTIONS))) + "\n"


def _section(heading: str, text: str, meanings: Mapping[str, str]) -> str:
    rows = [
        (name if name.startswith("`") else f"`{name}`", words) for name, words in meanings.items()
    ]
    return "\n\n".join(filter(None, (f"## {heading}", text, table(("variable", "meaning"), rows))))
