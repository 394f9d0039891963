"""Which faults end the runner: those that no later try of its agent can pass."""

from forge_assets.launches.catalogue import Entry

FATAL = {
    "agent_image": "the image lacks a package that every job needs",
    "api_disabled": "a person must enable the API",
    "client_bug": "each call goes to the wrong endpoint",
    "config": "the queue's configuration, or what all its jobs are made from, is wrong",
    "iam": "a person must grant a role",
    "image_arch": "the image is of another processor",
    "image_iam": "a person must grant a role on the registry",
    "image_missing": "a person must push the image or correct its name",
    "quota": "a person must ask for quota or take another region",
}
"""Class in the catalogue -> why waiting does not help. It holds with a retry of ``fix`` or ``region``
only: an image's agent that Google provisions on first use is there minutes later (``once``)."""

NOT_FATAL = {
    "agent": "one job did not start; the agent takes the next",
    "agent_timeout": "one job did not start in time",
    "build_infra": "the service failed, not the build",
    "crash_signal": "of one job",
    "driver": "of one job's image and GPU",
    "duplicate": "another agent runs the item",
    "entrypoint": "of one job's command",
    "internal": "it passes",
    "misleading": "a stock-out in another's words",
    "monitor_network": "of the monitor",
    "monitor_quota": "of the monitor",
    "nccl": "of one job",
    "no_capacity": "of one job; machines come back",
    "no_logs": "of one job",
    "oom_gpu": "of one job",
    "oom_host": "of one job's machine",
    "oom_or_kill": "of one job's machine",
    "preempted": "it passes",
    "quota_wait": "the job starts by itself",
    "stockout": "machines come back",
    "summary": "it is never the reason",
    "timeout": "of one job",
    "transient": "it passes",
    "user_build": "of one job",
    "user_code": "of one job",
    "wrapped": "the cause inside it decides",
}


def is_fatal(entry: Entry) -> bool:
    return entry.error_class in FATAL and entry.retry in ("fix", "region")
