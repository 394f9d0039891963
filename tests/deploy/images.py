"""deploy/Dockerfile as what it does, and what .dockerignore lets into it."""

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pathspec import GitIgnoreSpec

from tests.pipeline.project import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "ENTRYPOINT", "CMD"}


@dataclass
class Stage:
    """One FROM and what follows, as (instruction, arguments)."""

    name: str
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [arguments for given, arguments in self.lines if given == instruction]


def stages(dockerfile: Path = DOCKERFILE) -> dict[str, Stage]:
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.M)
    found: dict[str, Stage] = {}
    stage = None
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip():
            continue
        instruction, _, arguments = line.partition(" ")
        assert instruction in INSTRUCTIONS, line
        if instruction == "FROM":
            words = re.sub(r"--platform=\S+ ", "", arguments).split()
            stage = Stage(words[-1], words[0])
            found[stage.name] = stage
            continue
        assert stage is not None, line
        stage.lines.append((instruction, arguments))
    return found


def ignored() -> GitIgnoreSpec:
    """.dockerignore. Its patterns mean the same to git, whose rules this package knows."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert all(line.startswith(("#", "/", "!/", "**/")) for line in lines if line), lines
    return GitIgnoreSpec.from_lines(lines)


def copied(stage: Stage) -> list[tuple[list[str], str]]:
    """Sources and place of each COPY from the context."""
    found = []
    for arguments in stage.all("COPY"):
        if not arguments.startswith("--from="):
            *sources, place = arguments.split()
            found.append((sources, place))
    return found


def context() -> list[Path]:
    """The files, relative to the root, that the builder is sent, of those that git may know."""
    spec = ignored()
    tops = [path for path in ROOT.iterdir() if not spec.match_file(path.name)]
    files = [path for top in tops for path in ([top] if top.is_file() else top.rglob("*"))]
    relative = [path.relative_to(ROOT) for path in files if path.is_file()]
    return [path for path in relative if not spec.match_file(path.as_posix())]


def build(stage: Stage, folder: Path) -> None:
    """What the stage copies from the context, in ``folder``."""
    sent = context()
    for sources, place in copied(stage):
        for source in sources:
            inside = [path for path in sent if path == Path(source) or Path(source) in path.parents]
            assert inside, f"{source} is not in the context"
            for path in inside:
                target = folder / place / path.relative_to(source)
                if path == Path(source):
                    target = folder / place / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, target)
