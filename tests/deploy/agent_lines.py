"""Lines as W&B's launch agent prints them where no terminal is."""

RUNNING_NONE = (
    "wandb: launch: agent abc polling on queues q, running 0 out of a maximum of inf jobs"
)
RUNNING_ONE = "wandb: launch: agent abc polling on queues q, running 1 out of a maximum of inf jobs"
FINISHED = "wandb: launch: Job finished with ID: 4711"


def received(item: str, value: str = "500") -> list[str]:
    """The description of the job behind the line, as pprint breaks it; ``value`` is the user's."""
    return [
        "wandb: launch: Launch agent received job:",
        f"wandb: {{'runQueueItemId': '{item}',",
        "wandb:  'runSpec': {'docker': {'docker_image': 'us-docker.pkg.dev/p/r/trainer:abc'},",
        f"wandb:              'overrides': {{'run_config': {{'note': '{value}'}}}},",
        "wandb:              'resource': 'vertex'}}",
        "wandb: ",
    ]


def job_error(text: str) -> list[str]:
    """An exception of one job, which wandb prints with its traceback."""
    return [
        "wandb: ERROR launch: Error running job: Traceback (most recent call last):",
        'wandb: ERROR   File "vertex_runner.py", line 178, in launch_vertex_job',
        "wandb: ERROR     await submit(**execution_kwargs)",
        *(f"wandb: ERROR {line}" for line in text.splitlines()),
        "wandb: ERROR ",
    ]
