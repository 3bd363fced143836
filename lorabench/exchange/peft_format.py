"""PEFT's folder for a LoRA adapter: written without PEFT, and read with every doubt checked.

    adapter_config.json          the kind of LoRA, its rank and the layers
    adapter_model.safetensors    base_model.model.fc1.lora_A.weight (k, n) and .lora_B.weight (m, k);
                                 of DoRA also .lora_magnitude_vector (m,)

The layout is that of Hugging Face's PEFT 0.21.2. Its A and B are ours transposed, its `r` is our k.
"""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorabench import checkpoint
from lorabench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MAX_CONFIG_BYTES, MAX_TENSOR_BYTES = 1_000_000, 64_000_000
"""An adapter of rank 4,096, the highest that lorabench takes, has 26 million bytes."""

_WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
}
"""Keys that change nothing in what the adapter computes on our model, whatever their value."""


class _Config(BaseModel):
    """What we read of `adapter_config.json`; the defaults are PEFT's. Any other key must be empty or false."""

    model_config = ConfigDict(extra="allow", strict=True)

    peft_type: Literal["LORA"]
    r: Annotated[int, Field(ge=1, le=4096)] = 8
    lora_alpha: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 8
    target_modules: Annotated[list[str], Field(min_length=1)]
    use_rslora: bool = False
    use_dora: bool = False
    bias: Literal["none"] = "none"
    # The others (pissa, olora, corda, ...) change the base's weights when PEFT loads the adapter.
    init_lora_weights: bool | Literal["gaussian"] = True


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in lorabench's terms.

    Attributes:
        method: `lora` multiplies AB by alpha/k, `rslora` by alpha/√k, `dora` by nothing.
        targets: the layers, in the model's order.
        tensors: for each layer `fc1.A` (n, k) and `fc1.B` (k, m), of DoRA also `fc1.g` (m,); float32.
    """

    method: Literal["lora", "rslora", "dora"]
    k: int
    alpha: float
    targets: tuple[str, ...]
    tensors: dict[str, Tensor]

    @property
    def options(self) -> dict[str, Any]:
        """The method's own settings, complete."""
        if self.method == "dora":
            return {"k": self.k}
        return {"k": self.k, "alpha": self.alpha} | ({"init": "kaiming"} if self.method == "lora" else {})


def encode(adapter: Adapter) -> dict[str, bytes]:
    """The files of the adapter's folder, by name."""
    alpha = float(adapter.k) if adapter.method == "dora" else adapter.alpha
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": adapter.k,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": 0.0,
        "target_modules": list(adapter.targets),
        "use_rslora": adapter.method == "rslora",
        "use_dora": adapter.method == "dora",
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }
    names = _names(adapter.targets, dora=adapter.method == "dora")
    tensors = {theirs: adapter.tensors[ours].detach().cpu().t().contiguous() for ours, theirs in names.items()}
    return {CONFIG: (json.dumps(config, indent=2) + "\n").encode(), TENSORS: checkpoint.encode(tensors, {})}


def read(folder: Path, layers: Mapping[str, tuple[int, int]]) -> Adapter:
    """Read the adapter in `folder`.

    Args:
        folder: as PEFT's `save_pretrained` writes it.
        layers: names of the base's linear layers, each with its numbers of inputs n and outputs m.

    Raises:
        InputError: a file is missing, too big or damaged; the adapter is no LoRA, or has a feature that lorabench
            cannot represent; its layers, shapes or types are not those of the base; it holds NaN or infinity.
    """
    if not (folder / TENSORS).exists() and (folder / PICKLE).exists():
        raise InputError(f"{folder / PICKLE}: a pickle can run code and is never opened; save it as {TENSORS}")
    config = _read_config(folder / CONFIG)
    if unknown := [name for name in config.target_modules if name not in layers]:
        raise InputError(f"{folder / CONFIG}: the base has no layer {unknown[0][:80]!r}; it has {', '.join(layers)}")
    targets = tuple(name for name in layers if name in config.target_modules)
    names, k = _names(targets, dora=config.use_dora), config.r
    expected: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        target, _, letter = ours.rpartition(".")
        n, m = layers[target]
        expected[theirs] = torch.empty({"A": (k, n), "B": (m, k), "g": (m,)}[letter], device="meta")
    _check_file(folder / TENSORS, MAX_TENSOR_BYTES)
    stored = checkpoint.decode(folder / TENSORS, expected, {})
    tensors = {ours: stored[theirs].t() for ours, theirs in names.items()}
    if not config.use_dora:
        return Adapter("rslora" if config.use_rslora else "lora", k, config.lora_alpha, targets, tensors)
    # Our DoRA has no scale of its own; it goes into B.
    scale = config.lora_alpha / (math.sqrt(k) if config.use_rslora else k)
    scaled = {name: tensor * scale if name.endswith(".B") else tensor for name, tensor in tensors.items()}
    return Adapter("dora", k, float(k), targets, scaled)


def _names(targets: Sequence[str], *, dora: bool) -> dict[str, str]:
    """Our name of each tensor -> PEFT's. A matrix is stored transposed."""
    suffixes = {"A": "lora_A.weight", "B": "lora_B.weight"} | ({"g": "lora_magnitude_vector"} if dora else {})
    return {
        f"{target}.{ours}": f"base_model.model.{target}.{theirs}"
        for target in targets
        for ours, theirs in suffixes.items()
    }


def _read_config(path: Path) -> _Config:
    _check_file(path, MAX_CONFIG_BYTES)
    try:
        config = _Config.model_validate(json.loads(path.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        key = f"{first['loc'][0]}: " if first["loc"] else ""
        got = "" if first["type"] == "missing" else f"; got {first['input']!r:.57}"
        raise InputError(f"{path}: {key}{first['msg']}{got}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no readable JSON: {error}") from error
    for key, value in (config.model_extra or {}).items():
        if value and key not in _WITHOUT_EFFECT:
            name = json.dumps(key).strip('"')[:60]
            raise InputError(f"{path}: {name} is {json.dumps(value)[:60]}, which lorabench cannot represent")
    return config


def _check_file(path: Path, limit: int) -> None:
    try:
        status = path.lstat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if stat.S_ISLNK(status.st_mode):
        raise InputError(f"{path}: is a symbolic link; copy the folder with its files first, e.g. by cp -rL")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: no regular file")
    if status.st_size > limit:
        raise InputError(f"{path}: has {status.st_size:,} bytes; no LoRA adapter of this model has more than {limit:,}")
