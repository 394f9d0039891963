"""A cheap look at model files before anything is converted: headers only, no torch.

What does not pass can never be loaded. Every ConfigurationError is one sentence that names the
field, the file and the fix.
"""

import json
import mmap
import struct
from pathlib import Path
from typing import Any

from resources.errors import ConfigurationError

_GGUF_HEADER = struct.Struct("<4sIQQ")
"""Magic, version, number of tensors, number of keys."""
_GGUF_VERSIONS = (2, 3)
_GGUF_KEY_BYTES, _GGUF_TENSOR_BYTES = 13, 24
"""The least that a key and a tensor's description take in the file."""
_GGUF_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Of the values of a fixed size, by the number of their kind."""
_GGUF_UINT32, _GGUF_STRING, _GGUF_ARRAY = 4, 8, 9
_INT, _LONG = struct.Struct("<I"), struct.Struct("<Q")
_TOKENIZER_FILES = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "tekken.json")
_HEADER_LIMIT = 100_000_000
"""Of the safetensors format."""
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions")


def check_gguf(path: Path, field: str) -> None:
    """Whether the file begins like a GGUF model and can be as long as it says."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_GGUF_HEADER.size)
        size = path.stat().st_size
    except OSError as error:
        raise ConfigurationError(
            f"{field}: {path} cannot be read ({error.strerror}); correct its rights or the path."
        ) from None
    if head[:4] != b"GGUF":
        what = "is empty" if not head else "does not begin like a GGUF file"
        raise ConfigurationError(f"{field}: {path} {what}; fetch it again or name another.")
    if len(head) < _GGUF_HEADER.size:
        raise broken_gguf(path, field, "it ends in its header")
    _, version, tensors, keys = _GGUF_HEADER.unpack(head)
    if version not in _GGUF_VERSIONS:
        raise broken_gguf(path, field, f"its version is {version}, not 2 or 3")
    if not tensors or not keys:
        raise broken_gguf(path, field, "it holds no tensors")
    if keys * _GGUF_KEY_BYTES + tensors * _GGUF_TENSOR_BYTES > size:
        raise broken_gguf(path, field, "it is shorter than its header says")


def check_whole_gguf(path: Path, field: str) -> None:
    """Whether no part of the file is missing up to the last tensor's beginning.

    Reads all of the header, the vocabulary included: about a tenth of a second.
    """
    size = path.stat().st_size
    if not size:
        raise broken_gguf(path, field, "it is empty")
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            last = _last_tensor(data)
        except (struct.error, KeyError, OverflowError, IndexError, RecursionError):
            raise broken_gguf(path, field, "its header is damaged or cut off") from None
    if last >= size:
        raise broken_gguf(path, field, "it is cut off")


def _last_tensor(data: mmap.mmap) -> int:
    """Where the last tensor begins in the file."""
    _, _, tensors, keys = _GGUF_HEADER.unpack_from(data)
    place = _GGUF_HEADER.size
    alignment = 32
    for _ in range(keys):
        (length,) = _LONG.unpack_from(data, place)
        key = data[place + 8 : place + 8 + length]
        place += 8 + length
        (kind,) = _INT.unpack_from(data, place)
        if key == b"general.alignment" and kind == _GGUF_UINT32:
            (alignment,) = _INT.unpack_from(data, place + 4)
        place = _after_value(data, place + 4, kind)
    last = 0
    for _ in range(tensors):
        place += 8 + _LONG.unpack_from(data, place)[0]
        place += 4 + 8 * _INT.unpack_from(data, place)[0] + 4
        last = max(last, _LONG.unpack_from(data, place)[0])
        place += 8
    return place + -place % max(alignment, 1) + last


def _after_value(data: mmap.mmap, place: int, kind: int) -> int:
    """The place behind a value of this kind."""
    if kind == _GGUF_STRING:
        return place + 8 + int(_LONG.unpack_from(data, place)[0])
    if kind != _GGUF_ARRAY:
        return place + _GGUF_BYTES[kind]
    (inner,) = _INT.unpack_from(data, place)
    (count,) = _LONG.unpack_from(data, place + 4)
    place += 12
    if inner not in (_GGUF_STRING, _GGUF_ARRAY):
        return place + int(count) * _GGUF_BYTES[inner]
    for _ in range(count):
        place = _after_value(data, place, inner)
    return place


def broken_gguf(path: Path, field: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{field}: {path} cannot be read as a GGUF model ({reason});"
        " fetch it again or name another."
    )


def check_folder(folder: Path, field: str) -> None:
    """Whether the folder holds a config, a tokenizer and whole safetensors files."""
    config = read_mapping(folder / "config.json", field)
    text = config.get("text_config", config)
    if not isinstance(text, dict):
        raise _broken_json(folder / "config.json", field, "its text_config is no mapping")
    if not isinstance(config.get("architectures", []), list | None):
        raise _broken_json(folder / "config.json", field, "its architectures is no list")
    for key in _CONTEXT_KEYS:
        if not isinstance(text.get(key, 0), int | None):
            raise _broken_json(folder / "config.json", field, f"its {key} is no whole number")
    if not any(path.is_file() for name in _TOKENIZER_FILES for path in folder.glob(name)):
        raise ConfigurationError(
            f"{field}: {folder} has no tokenizer.json or other tokenizer file;"
            " copy the model's tokenizer files into it."
        )
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).is_file():
            read_mapping(folder / name, field)
    _check_shards(folder, field)
    for path in sorted(folder.glob("*.safetensors")):
        safetensors_header(path, field)


def _check_shards(folder: Path, field: str) -> None:
    """Whether every file that the index of a split model names is there."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    places = read_mapping(index, field).get("weight_map")
    if not isinstance(places, dict):
        raise _broken_json(index, field, "it has no weight_map")
    for name in sorted({str(name) for name in places.values()}):
        if not (folder / name).is_file():
            raise ConfigurationError(
                f"{field}: {folder} lacks {name}, which {index.name} names; fetch it again."
            )


def read_mapping(path: Path, field: str) -> dict[str, Any]:
    """A JSON file that holds a mapping."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _broken_json(path, field, error.strerror or "it cannot be read") from None
    except (ValueError, RecursionError) as error:
        raise _broken_json(path, field, f"{error}") from None
    if not isinstance(value, dict):
        raise _broken_json(path, field, "it holds no mapping")
    return value


def _broken_json(path: Path, field: str, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{field}: {path} is not usable ({reason}); fetch the model's folder again."
    )


def safetensors_header(path: Path, field: str) -> dict[str, dict[str, Any]]:
    """Names, types and shapes of a whole file: a little-endian length in 8 bytes, then JSON."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= min(size - 8, _HEADER_LIMIT):
                raise ValueError("no header")
            header: dict[str, dict[str, Any]] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = max(tensor["data_offsets"][1] for tensor in header.values())
        if any(type(extent) is not int for one in header.values() for extent in one["shape"]):
            raise ValueError("shapes are no numbers")
        if end + 8 + length > size or not all(
            isinstance(tensor["dtype"], str) for tensor in header.values()
        ):
            raise ValueError("the file is cut off")
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise ConfigurationError(
            f"{field}: {path} is not a whole safetensors file; fetch it again."
        ) from None
    return header
