"""PEFT's folder for an adapter: written without PEFT, and read with every doubt checked.

    adapter_config.json          the type, its rank and the layers
    adapter_model.safetensors    base_model.model.fc1.lora_A.weight (k, n) and .lora_B.weight (m, k); of each other
                                 type what `peft_types` declares

What is read is taken by what the tensors say: ranks and scales that differ from layer to layer become one rank, filled
up with zeros, and one scale, the rest of it in a tensor.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from pydantic import ValidationError

from lorabench import checkpoint
from lorabench.errors import InputError
from lorabench.exchange.peft_types import TYPES, Part, PeftType, matches, padded

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MAX_CONFIG_BYTES, MAX_TENSOR_BYTES = 1_000_000, 64_000_000
"""An adapter of rank 4,096, the highest that lorabench takes, has 26 million bytes."""

METHODS = {"lora": "LORA", "rslora": "LORA", "dora": "LORA", **{name.lower(): name for name in TYPES if name != "VERA"}}
"""The methods that are written, and PEFT's type of each."""


@dataclass(frozen=True)
class Adapter:
    """An adapter in lorabench's terms.

    Attributes:
        method: `lora` multiplies AB by alpha/k, `rslora` by alpha/√k, the others by nothing.
        options: the method's own settings, complete.
        targets: the layers, in the model's order.
        tensors: for each layer `fc1.A` (n, k) and `fc1.B` (k, m), of DoRA also `fc1.g` (m,), of the others what their
            files in `methods` name. float32.
    """

    method: str
    options: dict[str, Any]
    targets: tuple[str, ...]
    tensors: dict[str, Tensor]


def encode(adapter: Adapter) -> dict[str, bytes]:
    """The files of the adapter's folder, by name."""
    name = METHODS[adapter.method]
    kind = TYPES[name]
    config = {
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "target_modules": list(adapter.targets),
        "peft_type": name,
        **kind.settings({**adapter.options, "method": adapter.method, "targets": list(adapter.targets)}),
    }
    tensors: dict[str, Tensor] = {}
    for target in adapter.targets:
        own = {
            part.ours: adapter.tensors[f"{target}.{part.ours}"]
            for part in kind.PARTS
            if f"{target}.{part.ours}" in adapter.tensors
        }
        stored = kind.stored(own, adapter.options)
        tensors |= {
            part.key(target): (stored[part.ours].t() if part.flipped else stored[part.ours]).detach().cpu().contiguous()
            for part in kind.PARTS
            if part.ours in stored
        }
    return {CONFIG: (json.dumps(config, indent=2) + "\n").encode(), TENSORS: checkpoint.encode(tensors, {})}


def read(folder: Path, layers: Mapping[str, tuple[int, int]]) -> Adapter:
    """Read the adapter in `folder`.

    Args:
        folder: as PEFT's `save_pretrained` writes it.
        layers: names of the base's linear layers, each with its numbers of inputs n and outputs m.

    Raises:
        InputError: a file is missing, too big or damaged; the adapter is of another method, or has a feature that
            lorabench cannot represent; its layers, shapes or types are not those of the base; it holds NaN or infinity.
    """
    if not (folder / TENSORS).exists() and (folder / PICKLE).exists():
        raise InputError(f"{folder / PICKLE}: a pickle can run code and is never opened; save it as {TENSORS}")
    config = _read_config(folder / CONFIG)
    named: list[str] = [] if isinstance(config.target_modules, str) else config.target_modules
    if unknown := [name for name in named if not any(matches([name], layer) for layer in layers)]:
        raise InputError(f"{folder / CONFIG}: the base has no layer {unknown[0][:80]!r}; it has {', '.join(layers)}")
    targets = tuple(name for name in layers if config.selects(name))
    if not targets:
        raise InputError(f"{folder / CONFIG}: target_modules selects none of the base's layers {', '.join(layers)}")
    widest_n, widest_m = (max(layers[target][side] for target in targets) for side in (0, 1))
    stored = _read_tensors(folder / TENSORS, config, layers)
    parts: dict[tuple[str, Part], dict[str, int]] = {}
    for target in targets:
        held = {name.removeprefix(f"base_model.model.{target}."): tensor for name, tensor in stored.items()}
        n, m = layers[target]
        sizes = {"1": 1, "n": n, "m": m, "N": widest_n, "M": widest_m, **config.sizes(target, n, m, held)}
        parts |= {(target, part): sizes for part in config.parts(held)}
    expected = {
        part.key(target): torch.empty([sizes[letter] for letter in part.shape], device="meta")
        for (target, part), sizes in parts.items()
    }
    checkpoint.check(folder / TENSORS, stored, expected)
    own: dict[str, dict[str, Tensor]] = {target: {} for target in targets}
    k = max(sizes.get("r", 0) for sizes in parts.values())
    for (target, part), sizes in parts.items():
        # Of a tensor that all layers share, a layer uses the first rows or columns.
        tensor = stored[part.key(target)][tuple(slice(sizes[letter.lower()]) for letter in part.shape)]
        if "r" in part.shape:
            tensor = padded(tensor, k, part.shape.index("r"))
        own[target][part.ours] = tensor.t() if part.flipped else tensor
    try:
        method, options, tensors = config.adapter(own, k)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    return Adapter(method, options, targets, {name: tensor.contiguous() for name, tensor in tensors.items()})


def _read_tensors(path: Path, config: PeftType, layers: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """The tensors of the file as float32, by the names that PEFT 0.21.2 gives them.

    Others are `lora_A.default.weight`, with the adapter's name in it, and of a magnitude also `(m, 1)` or `.weight`.

    Raises:
        InputError: two adapters are in the file; or as `checkpoint.read`.
    """
    check_file(path, MAX_TENSOR_BYTES)
    _, stored = checkpoint.read(path)
    names = {part.name for part in config.PARTS}
    named: dict[str, Tensor] = {}
    pattern = re.compile(
        rf"(?:base_model\.model\.)?(?:_orig_mod\.)?({'|'.join(map(re.escape, layers))})\.(\w+)(?:\.[^.]+)??(\.weight)?"
    )
    for name, tensor in stored.items():
        own = name
        if match := pattern.fullmatch(name):
            layer, part, weight = match.groups()
            own = f"base_model.model.{layer}.{f'{part}.weight' if weight and f'{part}.weight' in names else part}"
            if part == "lora_magnitude_vector" and 1 in tensor.shape:
                tensor = tensor.flatten()
        elif match := re.fullmatch(r"base_model\.(vera_[AB])(?:\.\w+)?", name):
            own = f"base_model.{match[1]}"
        if own in named:
            raise InputError(f"{path}: holds {own} of two adapters; save one of them alone")
        # Every number of a half precision is one of float32.
        named[own] = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    return named


def _read_config(path: Path) -> PeftType:
    check_file(path, MAX_CONFIG_BYTES)
    try:
        parsed: Any = json.loads(path.read_bytes())
        told: dict[str, Any] = {**cast("dict[str, Any]", parsed)} if isinstance(parsed, dict) else {}
        named: Any = told.pop("peft_type", None)
        if not isinstance(named, str) or named not in TYPES:
            raise InputError(f"{path}: peft_type must be one of {', '.join(TYPES)}; got {named!r:.57}")
        config = TYPES[named].model_validate(told)
    except ValidationError as error:
        first = error.errors()[0]
        key = f"{first['loc'][0]}: " if first["loc"] else ""
        got = "" if first["type"] == "missing" else f"; got {first['input']!r:.57}"
        raise InputError(f"{path}: {key}{first['msg']}{got}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no readable JSON: {error}") from error
    if unknown := config.unknown():
        raise InputError(f"{path}: {unknown}, which lorabench cannot represent")
    return config


def check_file(path: Path, limit: int) -> None:
    """Refuse, by an InputError, what is no regular file of at most `limit` bytes, and links but a hub's cache's own."""
    try:
        status = path.lstat()
        # A hub's cache holds links to its own store: models--NAME/snapshots/REVISION/FILE -> models--NAME/blobs/HASH.
        if stat.S_ISLNK(status.st_mode) and path.resolve().parent == path.absolute().parents[2] / "blobs":
            status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISLNK(status.st_mode):
        raise InputError(f"{path}: is a symbolic link; copy the folder with its files first, e.g. by cp -rL")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: no regular file")
    if status.st_size > limit:
        raise InputError(f"{path}: has {status.st_size:,} bytes; no file of this model has more than {limit:,}")
