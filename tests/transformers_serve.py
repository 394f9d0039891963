"""A real `transformers serve` over a model folder, for the tests of the engine behind HTTP."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

PATIENCE_SECONDS = 120
_START = "from transformers.cli.transformers import main; main()"


class TransformersServe:
    """One server process; ``url`` answers from the moment it is made until ``close``."""

    def __init__(self, model: Path, scratch: Path) -> None:
        """``scratch``: a folder of its own, for its log and in place of the user's hub cache."""
        self.model = str(model)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log = scratch / "serve.log"
        (scratch / "hub").mkdir()
        options = ["--device", "cpu", "--dtype", "float32"]
        options += ["--host", "127.0.0.1", "--port", str(port)]
        environment = {"HF_HOME": str(scratch), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, "serve", self.model, *options],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                httpx.get(f"{self.url}/models", timeout=5).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError(f"transformers serve did not start:\n{self._log.read_text()}")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
