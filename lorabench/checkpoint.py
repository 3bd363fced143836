"""Trained tensors as safetensors bytes: saved with where they came from, read back with every doubt checked.

Nothing is ever unpickled. A checkpoint of a fine-tuned model holds what was trained and nothing else; its header
names the base by id and by the hash of the base's tensors, and it is refused on any other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from lorabench.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn


MAX_HEADER = 10_000_000
"""Bytes of a checkpoint's header; each tensor takes about a hundred."""


def trained(model: nn.Module) -> dict[str, Tensor]:
    """What a method trains, by name: the parameters that require a gradient. Aᵀ, `At` in the model, is `A` here."""
    return {
        name.removesuffix("t") if _is_At(name) else name: (p.t() if _is_At(name) else p).detach().cpu().contiguous()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def _is_At(name: str) -> bool:  # noqa: N802
    return name.rpartition(".")[2] == "At"


def frozen_hash(model: nn.Module) -> str:
    """`tensor_hash` of everything in the model that no method trains, buffers included."""
    live = {name for name, p in model.named_parameters() if p.requires_grad}
    for prefix, module in cast("Iterator[tuple[str, nn.Module]]", model.named_modules()):
        live |= {f"{prefix}.{name}" for name in getattr(module, "trained_buffers", ())}
    return tensor_hash({name: t for name, t in model.state_dict().items() if name not in live})


def tensor_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes: equal if and only if the tensors are bit-identical."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # NumPy knows no bfloat16
    return digest.hexdigest()


def encode(tensors: Mapping[str, Tensor], origin: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file of `tensors`, with `origin` in its header: the same bytes every time."""
    content = save(dict(tensors), {"format": "pt", **origin})
    # The library writes the header's entries in an order that changes from call to call.
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:8] + header.ljust(end - 8) + content[end:]


def decode(path: Path, expected: Mapping[str, Tensor], origin: Mapping[str, str]) -> dict[str, Tensor]:
    """Read the tensors of `path`.

    Args:
        path: a safetensors file.
        expected: tensors whose names, shapes and types the file must have, no more and no fewer.
        origin: header entries that must be in the file with these very values.

    Raises:
        InputError: missing, cut off or damaged; other names, shapes or types; NaN or infinite values; another origin.
    """
    header, tensors = read(path, 100_000 + 1_000 * len(expected))
    for key, value in origin.items():
        if header.get(key) != value:
            raise InputError(f"{path}: made for {key} {header.get(key, '(none named)')}, refused on {key} {value}")
    check(path, tensors, expected)
    return tensors


def read(path: Path, most: int = MAX_HEADER) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The header's entries and the tensors of a safetensors file, whose header has no more than `most` bytes.

    Raises:
        InputError: missing, cut off or damaged, or too long a header.
    """
    try:
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
        if length > most:
            raise InputError(f"{path}: damaged, or of another model: a header of {length:,} bytes, at most {most:,}")
        with cast("Any", safe_open(path, framework="pt")) as file:
            header: dict[str, str] = file.metadata() or {}
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such checkpoint") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: damaged, no readable safetensors file: {error}") from error


def check(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors of `path` that are not those expected.

    Raises:
        InputError: other names, shapes or types; NaN or infinite values.
    """
    if missing := sorted(set(expected) - set(tensors)):
        raise InputError(f"{path}: lacks the tensor {missing[0]}")
    if extra := sorted(set(tensors) - set(expected)):
        raise InputError(f"{path}: holds a tensor that does not belong to this model: {extra[0][:80]!r}")
    for name, tensor in tensors.items():
        want = expected[name]
        if tensor.shape != want.shape or tensor.dtype != want.dtype:
            raise InputError(
                f"{path}: {name} is {tensor.dtype} {tuple(tensor.shape)}, must be {want.dtype} {tuple(want.shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name} holds values that are not finite numbers")


def restore(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy `tensors` into the parameters of `model` that bear their names; the rest stays as it is."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in parameters:
                parameters[name].copy_(tensor)
            else:
                parameters[name + "t"].copy_(tensor.t())
