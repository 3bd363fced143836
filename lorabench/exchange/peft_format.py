"""PEFT's folder for an adapter: written without PEFT, and read with every doubt checked.

    adapter_config.json          the method, its rank and the layers
    adapter_model.safetensors    base_model.model.fc1.lora_A.weight (k, n) and .lora_B.weight (m, k);
                                 of DoRA also .lora_magnitude_vector (m,); of each other method its own

The layout is that of Hugging Face's PEFT 0.21.2; earlier ones read it as far as they have the method: LoRA and AdaLoRA
from 0.3, (IA)³ 0.4, LoHa and LoKr 0.6, rsLoRA 0.7, DoRA 0.9, VeRA 0.12. Its A and B are ours transposed, its `r` is our
k. What is read is taken by what the tensors say: ranks and scales that differ from layer to layer become one rank,
filled up with zeros, and one scale, the rest of it in B; VeRA, whose frozen half a run does not keep, becomes the LoRA
that it is.
"""

from __future__ import annotations

import json
import math
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch.nn import functional as F

from lorabench import checkpoint
from lorabench.errors import InputError
from lorabench.methods.registry import square

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    Parts = dict[str, Tensor]
    """What a file holds for one layer, by PEFT's name of each part: lora_A, hada_w1_a."""
    Shapes = dict[str, tuple[int, ...]]
    Built = tuple[str, dict[str, Any], dict[str, Tensor]]
    """The method, its options, and its tensors by name."""

CONFIG, TENSORS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
MAX_CONFIG_BYTES, MAX_TENSOR_BYTES = 1_000_000, 64_000_000
"""An adapter of rank 4,096, the highest that lorabench takes, has 26 million bytes."""

_WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "eva_config",
    "fan_in_fan_out",  # PEFT itself turns it off for an nn.Linear
    "inference_mode",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
    *("d_initial", "projection_prng_key"),  # VeRA, where its projections are saved
    *("feedforward_modules", "init_ia3_weights"),  # (IA)³: the shape of l says where it stands
    *("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step"),  # AdaLoRA's training
    *("rank_dropout_scale", "use_effective_conv2d", "decompose_both"),  # LoHa, LoKr
    *("eps", "num_cayley_neumann_terms", "oft_block_size"),  # OFT: the shape of S says how large its blocks are
    "mini_r",
}
"""Keys that change nothing in what the adapter computes on our model, whatever their value; so do dropouts."""

Rank = Annotated[int, Field(ge=1, le=4096)]
Alpha = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Modules = Annotated[list[str], Field(min_length=1)] | Annotated[str, Field(min_length=1, max_length=500)]


class _Config(BaseModel):
    """What we read of `adapter_config.json`; the defaults are PEFT's. Any other key must be empty or false."""

    model_config = ConfigDict(extra="allow", strict=True)

    target_modules: Modules
    exclude_modules: list[str] | Annotated[str, Field(max_length=500)] | None = None
    bias: Literal["none"] = "none"

    def selects(self, name: str) -> bool:
        """Whether PEFT puts the adapter on the layer `name`."""
        return not _matches(self.exclude_modules or [], name) and _matches(self.target_modules, name)


class _Ranked(_Config):
    r: Rank = 8
    rank_pattern: dict[str, Rank] | None = None

    def rank(self, name: str) -> int:
        return _of_pattern(self.rank_pattern, name, self.r)


class _Lora(_Ranked):
    lora_alpha: Alpha = 8
    alpha_pattern: dict[str, Alpha] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    # The others (pissa, olora, corda, loftq, ...) change the base's weights when PEFT loads the adapter: measured.
    init_lora_weights: bool | Literal["gaussian", "eva", "orthogonal", "mica"] = True


class _Vera(_Config):
    r: Rank = 256
    save_projection: Literal[True] = True
    init_weights: bool = True


class _Ada(_Config):
    init_r: Rank = 12
    r: int = 8  # without effect
    lora_alpha: Alpha = 8
    rank_pattern: dict[str, list[bool]] | None = None
    init_lora_weights: bool = True


class _Lycoris(_Ranked):
    alpha: Alpha = 8
    alpha_pattern: dict[str, Alpha] | None = None
    init_weights: bool | Literal["lycoris"] = True
    decompose_factor: Literal[-1] = -1


class _Hira(_Ranked):
    r: Rank = 32
    init_weights: bool | Literal["gaussian"] | None = True


class _Oft(_Config):
    r: int = 0  # the number of blocks; the shape of S says it
    init_weights: bool = True
    use_cayley_neumann: Literal[False] = False


class _Miss(_Config):
    r: Rank = 64
    init_weights: bool = True


@dataclass(frozen=True)
class Adapter:
    """An adapter in lorabench's terms.

    Attributes:
        method: `lora` multiplies AB by alpha/k, `rslora` by alpha/√k, the others by nothing.
        options: the method's own settings, complete.
        targets: the layers, in the model's order.
        tensors: for each layer `fc1.A` (n, k) and `fc1.B` (k, m), of DoRA also `fc1.g` (m,), of the others what their
            files in `methods` name; of VeRA, which is only written, also `VA` and `VB`. float32.
    """

    method: str
    options: dict[str, Any]
    targets: tuple[str, ...]
    tensors: dict[str, Tensor]


PARTS: dict[str, dict[str, str]] = {
    "lora": {"A": "lora_A.weight", "B": "lora_B.weight"},
    "rslora": {"A": "lora_A.weight", "B": "lora_B.weight"},
    "dora": {"A": "lora_A.weight", "B": "lora_B.weight", "g": "lora_magnitude_vector"},
    "vera": {"d": "vera_lambda_d", "b": "vera_lambda_b"},
    "ia3": {"l": "ia3_l"},
    "adalora": {"P": "lora_B", "E": "lora_E", "Q": "lora_A"},
    "loha": {"A1": "hada_w1_b", "B1": "hada_w1_a", "A2": "hada_w2_b", "B2": "hada_w2_a"},
    "lokr": {"C": "lokr_w1", "D1": "lokr_w2_a", "D2": "lokr_w2_b"},
    "hira": {"A": "hira_A", "B": "hira_B"},
    "oft": {"S": "oft_R.weight"},
    "miss": {"D": "miss_block"},
}
"""Of each method that PEFT has, our name of each tensor of a layer -> PEFT's."""
_FLIPPED = {"A", "B", "A1", "B1", "A2", "B2"}
"""Stored transposed."""


def encode(adapter: Adapter) -> dict[str, bytes]:
    """The files of the adapter's folder, by name. A key at its default that an older PEFT may not know is left out."""
    config = {
        "task_type": None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "target_modules": list(adapter.targets),
        **_settings(adapter),
    }
    tensors: dict[str, Tensor] = {}
    for target in adapter.targets:
        own = {name: adapter.tensors[f"{target}.{name}"].detach().cpu() for name in PARTS[adapter.method]}
        parts = {PARTS[adapter.method][name]: t.t() if name in _FLIPPED else t for name, t in own.items()}
        if adapter.method == "ia3":
            parts = {"ia3_l": own["l"][None] if adapter.options["place"] == "in" else own["l"][:, None]}
        elif adapter.method == "adalora":  # PEFT divides by k + 1e-5
            parts["lora_E"] = own["E"][:, None] * ((adapter.options["k"] + 1e-5) / adapter.options["k"])
        elif adapter.method == "oft":  # its R is the transpose of the paper's
            parts["oft_R.weight"] = -own["S"]
        elif adapter.method == "lokr" and _whole(len(own["D1"]), own["D2"].shape[1], adapter.options["k"]):
            parts = {"lokr_w1": own["C"], "lokr_w2": own["D1"] @ own["D2"]}
        tensors |= {f"base_model.model.{target}.{part}": tensor for part, tensor in parts.items()}
    if adapter.method == "vera":
        first = adapter.targets[0]
        tensors |= {f"base_model.vera_{part[1]}": adapter.tensors[f"{first}.{part}"] for part in ("VA", "VB")}
    content = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return {CONFIG: (json.dumps(config, indent=2) + "\n").encode(), TENSORS: checkpoint.encode(content, {})}


def _settings(adapter: Adapter) -> dict[str, Any]:
    """What `adapter_config.json` says of the method itself."""
    method, options = adapter.method, adapter.options
    k: Any = options.get("k")
    if method in ("lora", "rslora", "dora"):
        alpha = float(options.get("alpha", k))
        config: dict[str, Any] = {
            "peft_type": "LORA",
            "r": k,
            "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
        }
        return config | {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}}.get(method, {})
    return {
        "vera": {"peft_type": "VERA", "r": k, "projection_prng_key": 0, "save_projection": True},
        "ia3": {
            "peft_type": "IA3",
            "feedforward_modules": list(adapter.targets) if options.get("place") == "in" else [],
        },
        "adalora": {"peft_type": "ADALORA", "init_r": k, "target_r": k, "lora_alpha": k, "total_step": 100},
        "loha": {"peft_type": "LOHA", "r": k, "alpha": k},
        "lokr": {"peft_type": "LOKR", "r": k, "alpha": k},
        "hira": {"peft_type": "HIRA", "r": k},
        "oft": {"peft_type": "OFT", "r": 0, "oft_block_size": options.get("block"), "use_cayley_neumann": False},
        "miss": {"peft_type": "MISS", "r": k},
    }[method]


def _whole(m2: int, n2: int, k: int) -> bool:
    """Whether PEFT trains LoKr's right factor (m2, n2) as one matrix."""
    return k >= max(m2, n2) / 2


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
    kind, config = _read_config(folder / CONFIG)
    named: list[str] = [] if isinstance(config.target_modules, str) else config.target_modules
    if unknown := [name for name in named if not any(_matches([name], layer) for layer in layers)]:
        raise InputError(f"{folder / CONFIG}: the base has no layer {unknown[0][:80]!r}; it has {', '.join(layers)}")
    targets = tuple(name for name in layers if config.selects(name))
    if not targets:
        raise InputError(f"{folder / CONFIG}: target_modules selects none of the base's layers {', '.join(layers)}")
    _check_file(folder / TENSORS, MAX_TENSOR_BYTES)
    stored = _named(folder / TENSORS, layers)
    shared = {"A": "base_model.vera_A", "B": "base_model.vera_B"} if kind is KINDS["VERA"] else {}
    expected: Shapes = {}
    for target in targets:
        n, m = layers[target]
        prefix = f"base_model.model.{target}."
        own = {name.removeprefix(prefix): t for name, t in stored.items() if name.startswith(prefix)}
        expected |= {prefix + part: shape for part, shape in kind.shapes(config, target, (n, m), own).items()}
    if shared:
        wide, tall = (max(layers[target][side] for target in targets) for side in (0, 1))
        expected |= {shared["A"]: (config.r, wide), shared["B"]: (tall, config.r)}
    checkpoint.check(
        folder / TENSORS, stored, {name: torch.empty(shape, device="meta") for name, shape in expected.items()}
    )
    parts = {
        target: {
            name.removeprefix(f"base_model.model.{target}.").removesuffix(".weight"): stored[name]
            for name in expected
            if name.startswith(f"base_model.model.{target}.")
        }
        | (
            {"vera_A": stored[shared["A"]][:, : layers[target][0]], "vera_B": stored[shared["B"]][: layers[target][1]]}
            if shared
            else {}
        )
        for target in targets
    }
    try:
        method, options, tensors = kind.adapter(config, parts)
    except ValueError as error:
        raise InputError(f"{folder}: {error}") from error
    return Adapter(method, options, targets, {name: tensor.contiguous() for name, tensor in tensors.items()})


def _named(path: Path, layers: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """The tensors of the file as float32, by the names that PEFT 0.21.2 gives them.

    Others are `lora_A.default.weight`, with the adapter's name in it, and of a magnitude also `(m, 1)` or `.weight`.

    Raises:
        InputError: two adapters are in the file; or as `checkpoint.read`.
    """
    _, stored = checkpoint.read(path)
    found: dict[str, Tensor] = {}
    pattern = re.compile(
        rf"(?:base_model\.model\.)?(?:_orig_mod\.)?({'|'.join(map(re.escape, layers))})\.(\w+)(?:\.[^.]+)??(\.weight)?"
    )
    for name, tensor in stored.items():
        own = name
        if match := pattern.fullmatch(name):
            layer, part, weight = match.groups()
            weight = weight if weight and part in ("lora_A", "lora_B", "oft_R") else ""
            own = f"base_model.model.{layer}.{part}{weight}"
            if part == "lora_magnitude_vector" and 1 in tensor.shape:
                tensor = tensor.flatten()
        elif match := re.fullmatch(r"base_model\.(vera_[AB])(?:\.\w+)?", name):
            own = f"base_model.{match[1]}"
        if own in found:
            raise InputError(f"{path}: holds {own} of two adapters; save one of them alone")
        # Every number of a half precision is one of float32.
        found[own] = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    return found


def _matches(modules: str | Sequence[str], name: str) -> bool:
    """PEFT's rule: a text is a pattern for the whole name, or `all-linear`; in a list are names and their endings."""
    if not isinstance(modules, str):
        return any(name == module or name.endswith(f".{module}") for module in modules)
    try:
        return modules == "all-linear" or re.fullmatch(modules, name) is not None
    except re.error:
        return False


def _of_pattern(pattern: Mapping[str, Any] | None, name: str, usual: Any) -> Any:
    """What `rank_pattern` or `alpha_pattern` says of a layer, by PEFT's rule; `usual` where it says nothing."""
    for key, value in (pattern or {}).items():
        try:
            if len(key) <= 500 and re.match(rf"(.*\.)?({key})$", name):
                return value
        except re.error:
            continue
    return usual


def _padded(tensor: Tensor, k: int, axis: int) -> Tensor:
    """`tensor`, filled up with zeros along `axis` to k."""
    missing = k - tensor.shape[axis]
    return F.pad(tensor, (0, missing) if axis == 1 else (0, 0, 0, missing))


def _lora_shapes(config: _Lora, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del parts
    (n, m), r = sizes, config.rank(name)
    shapes: Shapes = {"lora_A.weight": (r, n), "lora_B.weight": (m, r)}
    return shapes | ({"lora_magnitude_vector": (m,)} if config.use_dora else {})


def _lora(config: _Lora, layers: dict[str, Parts]) -> Built:
    ranks = {name: config.rank(name) for name in layers}
    alphas: dict[str, float] = {name: _of_pattern(config.alpha_pattern, name, config.lora_alpha) for name in layers}
    even = len({*ranks.values()}) == len({*alphas.values()}) == 1 and not config.use_dora
    tensors: dict[str, Tensor] = {}
    k = max(ranks.values())
    for name, parts in layers.items():
        # Our DoRA has no scale of its own, and the layers of our LoRA have one in common: the rest goes into B.
        scale = 1 if even else alphas[name] / (math.sqrt(ranks[name]) if config.use_rslora else ranks[name])
        tensors |= {
            f"{name}.A": _padded(parts["lora_A"].t(), k, 1),
            f"{name}.B": _padded(parts["lora_B"].t() * scale, k, 0),
        }
        if config.use_dora:
            tensors[f"{name}.g"] = parts["lora_magnitude_vector"]
    if config.use_dora:
        return "dora", {"k": k}, tensors
    alpha = next(iter(alphas.values())) if even else float(k)
    if config.use_rslora and even:
        return "rslora", {"k": k, "alpha": alpha}, tensors
    return "lora", {"k": k, "alpha": alpha, "init": "kaiming"}, tensors


def _vera_shapes(config: _Vera, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del name, parts
    return {"vera_lambda_d": (config.r,), "vera_lambda_b": (sizes[1],)}


def _vera(config: _Vera, layers: dict[str, Parts]) -> Built:
    tensors: dict[str, Tensor] = {}
    for name, parts in layers.items():
        tensors[f"{name}.A"] = (parts["vera_lambda_d"][:, None] * parts["vera_A"]).t()
        tensors[f"{name}.B"] = (parts["vera_lambda_b"][:, None] * parts["vera_B"]).t()
    return "lora", {"k": config.r, "alpha": float(config.r), "init": "kaiming"}, tensors


def _ia3_shapes(config: _Config, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del config, name
    stored = parts.get("ia3_l")
    return {"ia3_l": (1, sizes[0]) if stored is not None and len(stored) == 1 else (sizes[1], 1)}


def _ia3(config: _Config, layers: dict[str, Parts]) -> Built:
    del config
    places = {"in" if len(parts["ia3_l"]) == 1 else "out" for parts in layers.values()}
    if len(places) > 1:
        raise ValueError("it rescales the inputs of some layers and the outputs of others; lorabench does one of them")
    return "ia3", {"place": places.pop()}, {f"{name}.l": parts["ia3_l"].flatten() for name, parts in layers.items()}


def _ada_shapes(config: _Ada, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del name
    stored = parts.get("lora_E")
    r = len(stored) if config.rank_pattern and stored is not None and stored.ndim else config.init_r
    return {"lora_A": (r, sizes[0]), "lora_B": (sizes[1], r), "lora_E": (r, 1)}


def _ada(config: _Ada, layers: dict[str, Parts]) -> Built:
    tensors: dict[str, Tensor] = {}
    k = max(1, *(len(parts["lora_E"]) for parts in layers.values()))
    for name, parts in layers.items():
        tensors |= {
            f"{name}.P": _padded(parts["lora_B"], k, 1),
            f"{name}.E": _padded(parts["lora_E"], k, 0).flatten() * (config.lora_alpha / (config.init_r + 1e-5)),
            f"{name}.Q": _padded(parts["lora_A"], k, 0),
        }
    return "adalora", {"k": k}, tensors


def _loha_shapes(config: _Lycoris, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del parts
    (n, m), r = sizes, config.rank(name)
    return {"hada_w1_a": (m, r), "hada_w1_b": (r, n), "hada_w2_a": (m, r), "hada_w2_b": (r, n)}


def _loha(config: _Lycoris, layers: dict[str, Parts]) -> Built:
    tensors: dict[str, Tensor] = {}
    k = max(map(config.rank, layers))
    for name, parts in layers.items():
        scale = _of_pattern(config.alpha_pattern, name, config.alpha) / config.rank(name)
        tensors |= {
            f"{name}.A1": _padded(parts["hada_w1_b"].t(), k, 1),
            f"{name}.B1": _padded(parts["hada_w1_a"].t(), k, 0),
            f"{name}.A2": _padded(parts["hada_w2_b"].t(), k, 1),
            f"{name}.B2": _padded(parts["hada_w2_a"].t() * scale, k, 0),
        }
    return "loha", {"k": k}, tensors


def _lokr_shapes(config: _Lycoris, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    (n1, n2), (m1, m2) = map(square, sizes)
    r = config.rank(name)
    left: Shapes = {"lokr_w1_a": (m1, r), "lokr_w1_b": (r, n1)} if "lokr_w1_a" in parts else {"lokr_w1": (m1, n1)}
    right: Shapes = {"lokr_w2": (m2, n2)} if "lokr_w2" in parts else {"lokr_w2_a": (m2, r), "lokr_w2_b": (r, n2)}
    return left | right


def _lokr(config: _Lycoris, layers: dict[str, Parts]) -> Built:
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    tensors: dict[str, Tensor] = {}
    for name, parts in layers.items():
        scale = _of_pattern(config.alpha_pattern, name, config.alpha) / config.rank(name)
        w1 = parts["lokr_w1"] if "lokr_w1" in parts else parts["lokr_w1_a"] @ parts["lokr_w1_b"]
        tensors[f"{name}.C"] = w1 * scale
        if "lokr_w2" not in parts:
            pairs[name] = parts["lokr_w2_a"], parts["lokr_w2_b"]
        else:  # one matrix is the product of itself and the identity
            w2 = parts["lokr_w2"]
            m2, n2 = w2.shape
            pairs[name] = (w2, torch.eye(n2)) if n2 < m2 else (torch.eye(m2), w2)
    k = max(config.r, *(len(right) for _, right in pairs.values()))
    for name, (left, right) in pairs.items():
        tensors |= {f"{name}.D1": _padded(left, k, 1), f"{name}.D2": _padded(right, k, 0)}
    return "lokr", {"k": k}, tensors


def _hira_shapes(config: _Hira, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del parts
    return {"hira_A": (config.rank(name), sizes[0]), "hira_B": (sizes[1], config.rank(name))}


def _hira(config: _Hira, layers: dict[str, Parts]) -> Built:
    tensors: dict[str, Tensor] = {}
    k = max(map(config.rank, layers))
    for name, parts in layers.items():
        tensors |= {f"{name}.A": _padded(parts["hira_A"].t(), k, 1), f"{name}.B": _padded(parts["hira_B"].t(), k, 0)}
    return "hira", {"k": k}, tensors


def _oft_shapes(config: _Oft, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del config, name
    stored = parts.get("oft_R.weight")
    count = len(stored) if stored is not None and stored.ndim and len(stored) else 1
    block = sizes[0] // count
    return {"oft_R.weight": (count, block * (block - 1) // 2)}


def _oft(config: _Oft, layers: dict[str, Parts]) -> Built:
    del config
    blocks = {(1 + math.isqrt(1 + 8 * parts["oft_R"].shape[1])) // 2 for parts in layers.values()}
    if len(blocks) > 1 or not 2 <= min(blocks) <= 256:
        raise ValueError(
            f"its blocks are of {', '.join(map(str, sorted(blocks)))}; lorabench has one size, of 2 to 256"
        )
    return "oft", {"block": blocks.pop()}, {f"{name}.S": -parts["oft_R"] for name, parts in layers.items()}


def _miss_shapes(config: _Miss, name: str, sizes: tuple[int, int], parts: Parts) -> Shapes:
    del name, parts
    return {"miss_block": (config.r, sizes[1])}


def _miss(config: _Miss, layers: dict[str, Parts]) -> Built:
    return "miss", {"k": config.r}, {f"{name}.D": parts["miss_block"] for name, parts in layers.items()}


@dataclass(frozen=True)
class _Kind:
    """A method of PEFT: its config, the shapes of what it has for a layer of sizes (n, m), and what we make of it."""

    config: type[_Config]
    shapes: Callable[[Any, str, tuple[int, int], Parts], Shapes]
    adapter: Callable[[Any, dict[str, Parts]], Built]


KINDS = {
    "LORA": _Kind(_Lora, _lora_shapes, _lora),
    "VERA": _Kind(_Vera, _vera_shapes, _vera),
    "IA3": _Kind(_Config, _ia3_shapes, _ia3),
    "ADALORA": _Kind(_Ada, _ada_shapes, _ada),
    "LOHA": _Kind(_Lycoris, _loha_shapes, _loha),
    "LOKR": _Kind(_Lycoris, _lokr_shapes, _lokr),
    "HIRA": _Kind(_Hira, _hira_shapes, _hira),
    "OFT": _Kind(_Oft, _oft_shapes, _oft),
    "MISS": _Kind(_Miss, _miss_shapes, _miss),
}


def _read_config(path: Path) -> tuple[_Kind, Any]:
    _check_file(path, MAX_CONFIG_BYTES)
    try:
        parsed: Any = json.loads(path.read_bytes())
        told: dict[str, Any] = {**cast("dict[str, Any]", parsed)} if isinstance(parsed, dict) else {}
        named: Any = told.pop("peft_type", None)
        if not isinstance(named, str) or named not in KINDS:
            raise InputError(f"{path}: peft_type must be one of {', '.join(KINDS)}; got {named!r:.57}")
        if named == "OFT":
            told.setdefault("use_cayley_neumann", True)  # PEFT's default, an approximation of the rotation
        config = KINDS[named].config.model_validate(told)
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
        if value and key not in _WITHOUT_EFFECT and not key.endswith("_dropout"):
            name = json.dumps(key).strip('"')[:60]
            raise InputError(f"{path}: {name} is {json.dumps(value)[:60]}, which lorabench cannot represent")
    return KINDS[named], config


def _check_file(path: Path, limit: int) -> None:
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
        raise InputError(f"{path}: has {status.st_size:,} bytes; no adapter of this model has more than {limit:,}")
