"""A fake image registry: the HTTP API of docker's, version 2, for reading."""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.wire.http_server import HttpServer, Page, Visit

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class FakeRegistry(HttpServer):
    """``token``: asked for as Docker Hub does, with the place where anybody gets it; "" for none."""

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.tells_digest = True
        self._found: dict[str, tuple[str, bytes]] = {}
        super().__init__()

    @property
    def environment(self) -> dict[str, str]:
        return {"ARTIFACT_REGISTRY_EMULATOR_HOST": self.address}

    def add(self, repository: str, tag: str, platforms: Sequence[str] = ("linux/amd64",)) -> str:
        """Several platforms make an index. The digest of what the tag names."""
        made = [self._image(repository, platform) for platform in platforms]
        if len(made) == 1:
            body = self._found[f"/v2/{repository}/manifests/{made[0]}"][1]
            return self._put(repository, tag, MANIFEST, body)
        parts: list[dict[str, Any]] = [
            {"digest": digest, "platform": _platform(platform)}
            for digest, platform in zip(made, platforms, strict=True)
        ]
        parts.append({"digest": "sha256:0", "platform": _platform("unknown/unknown")})
        return self._put(repository, tag, OCI_INDEX, json.dumps({"manifests": parts}).encode())

    def page(self, visit: Visit) -> Page:
        parts = urlsplit(visit.path)
        if parts.path == "/token":
            scope = parse_qs(parts.query)["scope"][0]
            return Page(200, json.dumps({"token": f"{self.token} {scope}"}).encode())
        repository = re.match(r"/v2/(.+)/(?:manifests|blobs)/", parts.path)
        if repository is None:
            return _error(404, "NAME_UNKNOWN", "Repository not found")
        expected = f"Bearer {self.token} repository:{repository[1]}:pull"
        if self.token and visit.headers.get("authorization") != expected:
            realm = f'Bearer realm="http://{self.address}/token",service="fake,registry"'
            challenge = f'{realm},scope="repository:{repository[1]}:pull"'
            return Page(401, b"{}", {"WWW-Authenticate": challenge})
        if parts.path not in self._found:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media, body = self._found[parts.path]
        if "manifests" in parts.path and media not in visit.headers.get("accept", ""):
            return _error(404, "MANIFEST_UNKNOWN", f"{media} is not accepted")
        digest = {"Docker-Content-Digest": _digest(body)} if self.tells_digest else {}
        return Page(200, body, {"Content-Type": media, **digest})

    def _image(self, repository: str, platform: str) -> str:
        config = json.dumps(_platform(platform)).encode()
        self._found[f"/v2/{repository}/blobs/{_digest(config)}"] = ("application/json", config)
        body = json.dumps({"config": {"digest": _digest(config)}, "layers": []}).encode()
        return self._put(repository, _digest(body), MANIFEST, body)

    def _put(self, repository: str, tag: str, media: str, body: bytes) -> str:
        for reference in (tag, _digest(body)):
            self._found[f"/v2/{repository}/manifests/{reference}"] = (media, body)
        return _digest(body)


def _platform(text: str) -> dict[str, str]:
    os, _, architecture = text.partition("/")
    return {"os": os, "architecture": architecture}


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _error(status: int, code: str, message: str) -> Page:
    return Page(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode())
