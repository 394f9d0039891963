"""What changes is done again, and nothing else; what is missing is noticed."""

from tests.pipeline.project import Project, occurrences, pair, step, texts

LIVE = (
    "SELECT i.id, s.key, i.step FROM forge.interactions i"
    " JOIN forge.subjects s ON s.id = i.subject_id WHERE i.superseded_at IS NULL"
)


def live(project: Project) -> set[tuple[int, str, str]]:
    return {(row["id"], row["key"], row["step"]) for row in project.query(LIVE)}


def retired(project: Project) -> set[tuple[str, str, str]]:
    rows = project.query(
        "SELECT s.key, i.step, i.status, i.output FROM forge.interactions i"
        " JOIN forge.subjects s ON s.id = i.subject_id WHERE i.superseded_at IS NOT NULL"
    )
    assert all(row["output"] is not None for row in rows)
    return {(row["key"], row["step"], row["status"]) for row in rows}


def test_a_changed_subject_and_a_changed_step(project: Project) -> None:
    draft, polish = pair()
    beside = step("beside", "Repeat: {text}")
    project.write_workflow([draft, polish, beside])
    assert project.materialize("canary-10").code == 0
    first = live(project)

    subjects = texts(7)
    subjects[1]["text"] = "Something else entirely."
    project.write_subjects(subjects)
    assert project.materialize(None, "key:subjects").code == 0
    assert project.stage("canary-10")["verdict"] == "incomplete"
    gate = project.materialize("ramp-50", 'key:"review/draft"')
    assert gate.code == 1, gate.text
    assert occurrences("ramp-50 refused: canary-10 is", gate.text) == 1, gate.text
    assert project.materialize("canary-10").code == 0
    second = live(project)
    assert {key for _, key, _ in second - first} == {"s1"}
    assert {key for _, key, _ in second & first} == {"s0", "s2"}
    of_the_subject = {("s1", name, "completed") for name in ("draft", "polish", "beside")}
    assert retired(project) == of_the_subject

    project.write_workflow([{**draft, "prompt": "Say a word on: {text}"}, polish, beside])
    assert project.stage("canary-10")["verdict"] == "incomplete"
    assert project.materialize("canary-10").code == 0
    third = live(project)
    assert {name for _, _, name in third - second} == {"draft", "polish"}
    assert {name for _, _, name in third & second} == {"beside"}
    of_the_steps = {(f"s{n}", name, "completed") for n in range(3) for name in ("draft", "polish")}
    assert retired(project) == of_the_subject | of_the_steps
    assert project.stage("canary-10")["verdict"] == "passed"


def test_a_lost_row_fails_the_check(project: Project) -> None:
    assert project.materialize("canary-10").code == 0
    lost = "DELETE FROM forge.interactions WHERE id ="
    lost += " (SELECT max(id) FROM forge.interactions WHERE step = 'polish')"
    assert project.execute(lost) == 1
    ended = project.materialize("canary-10", 'key:"review/results"')
    assert ended.code == 1, ended.text
    check = [
        one for one in project.evaluations("canary-10") if one["check_name"] == "nothing_lost"
    ][-1]
    assert not check["success"]
    assert check["description"].endswith("; 1 missing")
    assert check["metadata"]["missing"]["value"] == 1
    assert project.counts() == {"completed": 5}
    assert project.stage("canary-10")["verdict"] == "incomplete"


def test_a_step_without_its_parents_is_refused(project: Project) -> None:
    ended = project.materialize("canary-10", 'key:"review/polish"')
    assert ended.code == 1
    sentence = "canary-10: the selected steps need others that are unfinished: draft (3)"
    assert occurrences(sentence, ended.text) == 1, ended.text
    assert "running" not in project.counts()
    assert "completed" not in project.counts()
    first = project.materialize("canary-10", 'key:"review/draft"')
    assert first.code == 0, first.text
    assert project.counts() == {"completed": 3, "pending": 3}
    assert project.stage("canary-10")["verdict"] == "incomplete"
    assert project.materialize("canary-10", 'key:"review/polish"').code == 0
    assert project.counts() == {"completed": 6}
