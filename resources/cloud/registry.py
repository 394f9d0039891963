"""Image registries: which digest a tag has now, and for which machines the image was built."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import httpx

from resources.cloud import rest
from resources.cloud.credentials import Access
from resources.cloud.errors import CloudError, Denied, NotFound

VARIABLE = "ARTIFACT_REGISTRY_EMULATOR_HOST"
PLATFORM = "linux/amd64"
"""Of the machines of Vertex AI and Cloud Run."""

_DOCKER_HUB = "docker.io"
_DOCKER_HUB_SERVER = "registry-1.docker.io"
_GOOGLE = re.compile(r"(?:[a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """``reference``: a tag or a digest."""

    host: str
    repository: str
    reference: str

    @property
    def is_of_google(self) -> bool:
        return _GOOGLE.fullmatch(self.host) is not None

    def at(self, digest: str) -> str:
        return f"{self.host}/{self.repository}@{digest}"


@dataclass(frozen=True, slots=True)
class Image:
    """``pinned``: the image by its digest. ``platforms``: ``linux/amd64``, …; empty when not told."""

    digest: str
    pinned: str
    platforms: tuple[str, ...]

    @property
    def fits(self) -> bool | None:
        """Whether our machines can run it; None when the registry does not tell."""
        return PLATFORM in self.platforms if self.platforms else None


def image_name(image: str) -> ImageName:
    """As docker reads it: without a host it is Docker Hub's, without a tag ``latest``."""
    rest_of_it, _, digest = image.partition("@")
    host, slash, path = rest_of_it.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = _DOCKER_HUB, rest_of_it
    path, _, tag = path.partition(":")
    if host == _DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return ImageName(host, path, digest or tag or "latest")


class Registry:
    """Registries by their HTTP API, version 2. Google's get the credentials, all others nothing.

    ``address``: host:port of a local registry that stands for every other one.
    """

    def __init__(
        self,
        access: Access,
        address: str | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._token = rest.GoogleToken(access)
        self._address = address
        self._client = httpx.Client(transport=transport)

    def image(self, image: str, seconds: float) -> Image:
        """NotFound, Denied or another CloudError when the registry does not show it."""
        name = image_name(image)
        return rest.within(seconds, name.host, lambda end: self._image(name, end))

    def _image(self, name: ImageName, end: float) -> Image:
        headers = self._headers(name)
        path = f"manifests/{name.reference}"
        answer = self._get(name, path, headers, end)
        if answer.status == 401 and not name.is_of_google:
            headers |= self._anonymous(name, answer.headers.get("www-authenticate", ""), end)
            answer = self._get(name, path, headers, end)
        failed = answer.failure()
        if failed is not None:
            raise _explained(name, failed)
        manifest = answer.json()
        digest = answer.headers.get("docker-content-digest", "")
        if not _DIGEST.fullmatch(digest):
            digest = f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        return Image(digest, name.at(digest), self._platforms(name, manifest, headers, end))

    def _platforms(
        self, name: ImageName, manifest: Mapping[str, Any], headers: dict[str, str], end: float
    ) -> tuple[str, ...]:
        """Of an index; of a single image as its configuration tells, which may be out of reach."""
        if isinstance(manifest.get("manifests"), list):
            parts = [part.get("platform") for part in manifest["manifests"] if part]
            # Beside the images lie attestations, which are for no machine.
            return tuple(
                found for found in map(_platform, parts) if found and "unknown" not in found
            )
        config = manifest.get("config")
        digest = config.get("digest") if isinstance(config, Mapping) else None
        if not isinstance(digest, str):
            return ()
        try:
            found = _platform(self._get(name, f"blobs/{digest}", headers, end).json())
        except (CloudError, httpx.HTTPError):
            return ()
        return (found,) if found else ()

    def _headers(self, name: ImageName) -> dict[str, str]:
        headers = {"Accept": ", ".join((*_INDEXES, *_MANIFESTS))}
        if name.is_of_google and self._address is None:
            # The quota project is for Google's APIs; a registry takes the token alone.
            headers |= self._token.headers(with_quota_project=False)
        return headers

    def _get(
        self, name: ImageName, path: str, headers: Mapping[str, str], end: float
    ) -> rest.Answer:
        url = f"{self._server(name)}/v2/{name.repository}/{path}"
        return rest.get(self._client, url, headers, end, name.host)

    def _server(self, name: ImageName) -> str:
        if self._address is not None:
            return f"http://{self._address}"
        return f"https://{_DOCKER_HUB_SERVER if name.host == _DOCKER_HUB else name.host}"

    def _anonymous(self, name: ImageName, challenge: str, end: float) -> dict[str, str]:
        """A token for nobody, as the registry says where; empty when it names no such place."""
        scheme, _, told = challenge.partition(" ")
        values = parse_keqv_list([part for part in parse_http_list(told) if "=" in part])
        realm = values.get("realm", "")
        here = self._address is not None and urlsplit(realm).netloc == self._address
        if scheme.lower() != "bearer" or not (realm.startswith("https://") or here):
            return {}
        asked: dict[str, str] = {
            key: value for key, value in values.items() if key in ("service", "scope")
        }
        asked.setdefault("scope", f"repository:{name.repository}:pull")
        answer = rest.get(self._client, f"{realm}?{urlencode(asked)}", {}, end, name.host).json()
        token = answer.get("token") or answer.get("access_token")
        return {"Authorization": f"Bearer {token}"} if token else {}


def _platform(found: Any) -> str:
    if not isinstance(found, Mapping) or not found.get("architecture"):
        return ""
    return f"{found.get('os') or 'linux'}/{found['architecture']}"


def _explained(name: ImageName, failed: CloudError) -> CloudError:
    """The same error, with the image's name."""
    what = f"{name.host}/{name.repository}"
    if isinstance(failed, NotFound):
        said = f"manifest for {what}, {name.reference}, not found: {failed}"
    elif isinstance(failed, Denied):
        said = f"{what} may not be read (or does not exist): {failed}"
    else:
        return failed
    return type(failed)(said, failed.code, failed.reason, failed.retry_after)
