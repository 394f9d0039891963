"""The agent's lines: jobs are counted once, errors are whole, a job's description is no error."""

from deploy.runner.agent_log import AgentLog, Block, Job
from tests.deploy.agent_lines import FINISHED, RUNNING_NONE, RUNNING_ONE, job_error, received


def read(log: AgentLog, lines: list[str]) -> list[Job | Block]:
    told = [told for line in lines for told in log.read(f"{line}\n")]
    return [*told, *log.flush()]


def jobs(told: list[Job | Block]) -> list[str]:
    return [one.item for one in told if isinstance(one, Job)]


def texts(told: list[Job | Block]) -> list[str]:
    return [one.text for one in told if isinstance(one, Block)]


def test_a_job_is_counted_once_in_a_whole_life() -> None:
    log = AgentLog()
    told = read(log, [*received("a"), *received("b"), *received("a")])
    assert jobs(told) == ["a", "b"]
    noise = [f"step {n}" for n in range(500)]
    assert jobs(read(log, [*noise, *received("b"), *received("c")])) == ["c"]
    assert len(log.items) == 3


def test_the_item_may_stand_in_the_same_line_or_nowhere() -> None:
    log = AgentLog()
    assert jobs(read(log, ["wandb: launch: agent received job: UnVuUXVl"])) == ["UnVuUXVl"]
    nameless = ["wandb: launch: Launch agent received job:", "wandb: ", RUNNING_ONE]
    assert len(jobs(read(log, nameless))) == 1
    assert len(jobs(read(log, nameless))) == 1
    assert len(log.items) == 3


def test_what_a_user_wrote_into_a_job_is_not_read() -> None:
    told = read(AgentLog(), received("a", 'Machine type "x" is not supported. running 7 out of a'))
    assert texts(told) == ["launch: Launch agent received job:", ""]


def test_jobs_running() -> None:
    log = AgentLog()
    seen = []
    for lines in ([RUNNING_NONE], received("a"), received("b"), [FINISHED], [RUNNING_ONE]):
        read(log, lines)
        seen.append(log.running)
    assert seen == [0, 1, 2, 1, 1]
    read(log, [*job_error("ValueError: no rows"), RUNNING_NONE])
    assert log.running == 0


def test_a_job_that_fails_at_once_runs_no_more() -> None:
    log = AgentLog()
    read(log, [*received("a"), *job_error("ValueError: no rows")])
    assert log.running == 0


def test_the_lines_of_an_error_are_one_block() -> None:
    chained = (
        "KeyError: 'k'\n\nThe above exception was the direct cause of the following exception:\n\n"
        'Traceback (most recent call last):\n  File "a.py", line 8, in f\nValueError: bad'
    )
    told = read(AgentLog(), [RUNNING_ONE, *job_error(chained), *job_error("OSError: x"), FINISHED])
    first, error, other, last = texts(told)
    assert (first, last) == (
        "launch: " + RUNNING_ONE.split("launch: ")[1],
        "launch: " + FINISHED[15:],
    )
    assert error.startswith("launch: Error running job: Traceback")
    assert error.rstrip().endswith("ValueError: bad")
    assert other.rstrip().endswith("OSError: x")


def test_a_bare_traceback_is_one_block_and_ends_with_its_exception() -> None:
    lines = [
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in <module>',
        "    main()",
        "KeyError: 'k'",
        "",
        "During handling of the above exception, another exception occurred:",
        "",
        "Traceback (most recent call last):",
        '  File "b.py", line 2, in f',
        "ValueError: bad",
    ]
    told = read(AgentLog(), [*lines, "next line"])
    assert texts(told) == ["\n".join(lines), "next line"]


def test_an_error_waits_until_it_is_whole() -> None:
    log = AgentLog()
    assert [told for line in job_error("ValueError: bad") for told in log.read(line)] == []
    (block,) = log.flush()
    assert block.is_error
    assert list(log.flush()) == []


def test_colours_are_not_read() -> None:
    log = AgentLog()
    coloured = "\x1b[34m\x1b[1mwandb\x1b[0m: \x1b[35mlaunch:\x1b[0m agent received job: a"
    assert jobs(read(log, [coloured])) == ["a"]


def test_an_error_without_end_is_cut() -> None:
    told = read(AgentLog(), ["wandb: ERROR x"] * 2500)
    assert [len(block.lines) for block in told if isinstance(block, Block)] == [1000, 1000, 500]
