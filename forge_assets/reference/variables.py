"""Every environment variable that the project's code reads or sets, and what it means."""

from collections.abc import Mapping

PROJECT: Mapping[str, str] = {
    "DAGSTER_HOME": "The checkout's root: where Dagster finds `dagster.yaml`. The `forge` command sets it by"
    " itself.",
    "FORGE_CONFIG": "The configuration file. Default: `forge.yaml` in the checkout.",
    "FORGE_DATABASE_URL": "URL of a PostgreSQL of your own, instead of the embedded one. It holds the results"
    " and Dagster's own storage.",
    "FORGE_CACHE": "Folder of the converted weights. Default: the user's cache folder.",
}
LAUNCHES: Mapping[str, str] = {
    "GOOGLE_CLOUD_PROJECT": "The project, when forge.yaml names none.",
    "WANDB_API_KEY": "Key of W&B; needed for its queues and runs.",
    "WANDB_BASE_URL": "Address of a W&B server of your own. Default: `https://api.wandb.ai`.",
}
EMULATORS: Mapping[str, str] = {
    "VERTEX_EMULATOR_HOST": "`host:port` instead of Vertex AI.",
    "CLOUD_RUN_EMULATOR_HOST": "`host:port` instead of Cloud Run.",
    "CLOUD_BUILD_EMULATOR_HOST": "`host:port` instead of Cloud Build.",
    "CLOUD_LOGGING_EMULATOR_HOST": "`host:port` instead of Cloud Logging.",
    "ARTIFACT_REGISTRY_EMULATOR_HOST": "`host:port` instead of Artifact Registry. Not set beside another"
    " emulator, images are not asked for.",
    "SERVICE_USAGE_EMULATOR_HOST": "`host:port` instead of Service Usage. Not set beside another emulator,"
    " quotas are not asked for.",
    "STORAGE_EMULATOR_HOST": "`http://host:port` of a local Cloud Storage. Not set beside another emulator,"
    " the staging bucket is not looked at.",
}
MACHINE: Mapping[str, str] = {
    "CUDA_VISIBLE_DEVICES": "Which GPUs are seen, as with every CUDA program.",
    "NOTIFY_SOCKET": "Set by systemd in the units of `deploy/systemd`: where to say that all is up.",
    "PYTHONPATH": "Handed on to processes of our own, the checkout in front.",
    "OMP_WAIT_POLICY": "Set to `PASSIVE` unless you set it: threads that wait for each other sleep.",
    "GRPC_VERBOSITY": "Set to `NONE` unless you set it: gRPC writes no lines between ours.",
    "DAGSTER_DISABLE_TELEMETRY": "Set to `yes` by `forge` unless you set it.",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "Set to `0` for vLLM unless you set it: it has a process of its own"
    " already.",
    "VLLM_USE_FLASHINFER_SAMPLER": "Set to `0` for vLLM unless you set it: no compiler is needed.",
    "VLLM_LOGGING_LEVEL": "Set to `WARNING` for vLLM unless you set it.",
    "VLLM_NO_USAGE_STATS": "Set to `1` for vLLM unless you set it.",
    "HF_HUB_OFFLINE": "Set to `1` for vLLM unless you set it: the weights are there.",
}
RUNNER: Mapping[str, str] = {
    "FORGE_LAUNCH": "Id of the launch; we set it in the runner's execution and in the job's container.",
    "FORGE_TARGET_REGION": "Where the runner's jobs run; `forge launch` sets it in the runner.",
    "GOOGLE_CLOUD_REGION": "The same, where the one above is not set.",
    "GCE_METADATA_HOST": "Google's metadata server, which knows the runner's own region.",
    "WANDB_LAUNCH_START_TIMEOUT": "Seconds after which W&B's agent cancels a job that has not started. Set to"
    " `0`, never, unless you set it.",
}
LIBRARIES: Mapping[str, str] = {
    "GOOGLE_APPLICATION_CREDENTIALS": "A key file for Google, instead of"
    " `gcloud auth application-default login`.",
    "HF_TOKEN": "Token of the Hugging Face hub, for models that need one.",
    "HTTP_PROXY": "Proxy for `http` addresses, also for 127.0.0.1.",
    "HTTPS_PROXY": "Proxy for `https` addresses.",
    "NO_PROXY": "Hosts that are asked without a proxy.",
    "XDG_CACHE_HOME": "The user's cache folder, in which `FORGE_CACHE` is by default.",
    "XDG_DATA_HOME": "The user's data folder, in which the embedded database is.",
}
DEPLOYED: Mapping[str, str] = {
    "FORGE_LOG_BUCKET": "Bucket of the compute logs, with `deploy/gcp/dagster.yaml`.",
    "FORGE_PROJECT": "Of `deploy/compose.yaml`: the folder of your forge.yaml.",
    "FORGE_UID": "Of `deploy/compose.yaml`: whose that folder is.",
    "FORGE_TARGET": "Of `deploy/compose.yaml`: `cpu` or `cuda`.",
    "FORGE_LOGS_IN": "Of `deploy/compose.yaml`: `host` or `gcp`.",
    "FORGE_UI_PORT": "Of `deploy/compose.yaml`: the UI's port on this host.",
    "TORCH_INDEX": "Of `deploy/Dockerfile`: PyTorch's index of builds for the CPU.",
}
NAMED_BY_YOU: Mapping[str, str] = {
    "`api_key_env: NAME` of a model": "Holds the key of its server.",
    "`url: ${NAME}` of an `sql` source": "Holds the SQLAlchemy URL of the database.",
    "`env:NAME` in `alerts.to`": "Holds an apprise URL.",
}

READ_HERE: Mapping[str, str] = {**PROJECT, **LAUNCHES, **EMULATORS, **MACHINE, **RUNNER}
"""Those that stand in our own code; a test compares."""
