"""docs/reference/workflow.md."""

from forge_assets.reference.sections import NOTE, Schema, Section, Sections, table
from forge_assets.reference.workflow_words import ERROR_CLASSES, OPERATORS

_SECTIONS = (
    Section("The file", ""),
    Section(
        "steps",
        "Step",
        more="What may stand in `prompt` and `system`: [templates](../workflows.md#templates). When a"
        " step is skipped: [needs](../workflows.md#needs-and-what-skips-a-step). What is tried again:"
        " [retries](../workflows.md#retries).",
    ),
    Section("generate", "GenerateParams"),
    Section("output", "OutputContract", more="How it is judged: [output](../workflows.md#output)."),
    Section("when", "When"),
)
_TOP = f"""\
{NOTE}

# Workflow files: reference

Every key of a workflow file, its type, its default and what it means. How they work together is told in
[Workflow files and forge.yaml](../workflows.md). An unknown key is refused, with file, line, field and the
known keys. Values have the type that is written here: nothing is converted, so text that looks like a number
needs quotes. Editors complete and check these keys by `docs/schemas/workflow.schema.json`
([your editor](../workflows.md#your-editor)).
"""


def workflow_page(schema: Schema) -> str:
    operators = table(
        ("op", "taken when"), [(f"`{each}`", words) for each, words in OPERATORS.items()]
    )
    classes = table(
        ("class", "tried again", "ends as", "means"),
        [
            (
                f"`{each.value}`",
                "yes" if each.retryable else "no",
                each.final_status.value,
                words,
            )
            for each, words in ERROR_CLASSES.items()
        ],
    )
    return "\n".join(
        (
            _TOP,
            str(Sections(schema, _SECTIONS)),
            "\n### Operators\n",
            "1 equals 1.0, and never `true`. A path that the answer lacks, or types that cannot be\n"
            "compared: not taken.\n",
            operators,
            "\n## Error classes\n",
            "What can go wrong with one interaction. Only the last attempt counts.\n",
            classes,
            "",
        )
    )
