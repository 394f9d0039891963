"""A sample of the hostile inputs through the real commands, to the terminal and the files."""

import pytest

from tests.chat_server import ChatServer, Reply, completion
from tests.hostile.output_inputs import BY_HAND
from tests.hostile.payloads import CANARY, PAYLOADS, TERMINAL, assert_neutral
from tests.hostile.subject_inputs import LINES
from tests.hostile.test_hostile_outputs import harmless
from tests.hostile.workflow_inputs import workflow_inputs
from tests.pipeline.project import OTHER, SMALL, Project, step

ANSWERS = 60
BODIES = (
    b"",
    b"\x00" * 1000,
    b"<html><script>alert(1)</script>",
    b'{"choices": [{"message": {"content": 3}}]}',
    b'{"choices": ' + b"[" * 50_000,
    b'{"choices": [{"message": {"content": "a\\u0000b\\ud800"}, "finish_reason": {"a": 1}}]}',
)


def sentence_of(code: int, err: str, name: str) -> None:
    assert code == 2, (name, err)
    assert err.startswith("forge: "), name
    assert err.count("\n") == 1, (name, err)
    assert_neutral(err.rstrip("\n"), name)


def test_hostile_files_end_the_command_with_one_line(module_project: Project) -> None:
    project = module_project
    flow, subjects = project.folder / "workflows/review.yaml", project.folder / "subjects.jsonl"
    good = flow.read_bytes(), subjects.read_bytes()
    wanted = (0, 253)
    contents = list(workflow_inputs())
    for number in wanted:
        name, content = contents[number]
        flow.write_bytes(content)
        ended = project.forge("plan", "--stage", "canary-10")
        sentence_of(ended.code, ended.err, name)
    flow.write_bytes(good[0])
    subjects.write_bytes(b"\n".join(line for line in LINES[:6] if b'"k"' not in line))
    ended = project.forge("plan", "--stage", "canary-10")
    sentence_of(ended.code, ended.err, "subjects")
    subjects.write_bytes(good[1])
    ended = project.forge("trace", "\x1b[31mx\u202e")
    sentence_of(ended.code, ended.err, "argument")
    assert not CANARY.exists()


def test_hostile_answers_of_a_server_end_as_rows(module_project: Project) -> None:
    project = module_project
    texts = [text.replace("\x00", "").encode(errors="ignore").decode() for text in PAYLOADS]
    answers = [text for text in BY_HAND if len(text) < 60_000][:ANSWERS]
    prompts = [f"{n} {texts[n % len(texts)]}".strip() for n in range(len(answers) + len(BODIES))]
    script = {
        prompt: [Reply(body=completion(answer))]
        for prompt, answer in zip(prompts, answers, strict=False)
    }
    script |= {
        prompt: [Reply(body=body)]
        for prompt, body in zip(prompts[-len(BODIES) :], BODIES, strict=True)
    }
    keys = [f"{n}{TERMINAL[n % len(TERMINAL)]}" for n in range(len(prompts))]
    project.stages = {"canary-10": len(prompts)}
    project.write_subjects(
        [{"key": key, "text": text} for key, text in zip(keys, prompts, strict=True)]
    )
    project.write_workflow([step("draft", "{text}", output={"one_of": ["yes", "no"]})])
    with ChatServer(script, usual=Reply(body=completion("\x1b[31mno"))) as server:
        far = {"engine": "openai_http", "source": "echo", "url": server.url}
        project.configure(models={SMALL: far, OTHER: far}, subjects=source("hostile"))
        run = project.forge("run", "--stage", "canary-10")
    assert run.code == 1, run.text
    assert "Traceback" not in run.text
    assert_neutral(run.text.replace("\r", ""), "run")
    counts = project.counts()
    assert sum(counts.values()) == len(prompts), counts
    assert set(counts) <= {"completed", "rejected", "failed"}
    missing = "SELECT count(*) FROM forge.interactions WHERE status <> 'completed' AND error_class IS NULL"
    assert project.scalar(missing) == 0
    for arguments in (("status",), ("report", "--stage", "canary-10"), ("trace", keys[0])):
        ended = project.forge(*arguments)
        assert ended.code == 0, ended.text
        assert_neutral(ended.out, arguments[0])
        if arguments[0] != "status":
            harmless(ended.out, arguments[0])
    (report,) = project.output.rglob("report.md")
    harmless(report.read_text(), "report.md")
    assert not CANARY.exists()


def source(name: str) -> dict[str, str]:
    return {"source": "jsonl", "path": "subjects.jsonl", "name": f"{name} <script>x</script>"}


pytestmark = pytest.mark.timeout(300)
