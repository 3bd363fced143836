"""The nine types of adapter that lorabench and Hugging Face's PEFT both have: all that is known of a type in one class.

Its fields are the keys of `adapter_config.json` that matter, with PEFT's defaults; `PARTS` are the tensors of a layer,
under both names; `adapter` says what they are in lorabench's terms, `settings` and `stored` how ours are written. The
layout is that of PEFT 0.21.2; earlier ones read it as far as they have the type.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch.nn import functional as F

from lorabench.methods.registry import square

if TYPE_CHECKING:
    from torch import Tensor

    Options = Mapping[str, Any]
    """Our method, its options, and its targets."""
    Tensors = Mapping[str, Tensor]
    """The tensors of a layer, by name."""
    Layers = Mapping[str, Tensors]
    Built = tuple[str, dict[str, Any], dict[str, Tensor]]
    """The method, its options, and the tensors of all layers: `fc1.A`."""

Rank = Annotated[int, Field(ge=1, le=4096)]
Alpha = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Modules = Annotated[list[str], Field(min_length=1)] | Annotated[str, Field(min_length=1, max_length=500)]

_WITHOUT_EFFECT = {
    "auto_mapping",
    "base_model_name_or_path",
    "fan_in_fan_out",  # PEFT itself turns it off for an nn.Linear
    "inference_mode",
    "peft_version",
    "revision",
    "task_type",
}


class Part(NamedTuple):
    """A tensor of a layer: our name, PEFT's, and its shape there in the letters of `sizes`; ours may be its transpose.

    A name that begins with `base_model` is of a tensor that all layers share, each its own rows and columns.
    """

    ours: str
    name: str
    shape: str
    flipped: bool = False

    def key(self, layer: str) -> str:
        """The tensor's name in the file."""
        return self.name if self.name.startswith("base_model.") else f"base_model.model.{layer}.{self.name}"


class PeftType(BaseModel):
    """What all types have in common. A key that is in no field must be empty, false or without effect."""

    model_config = ConfigDict(extra="allow", strict=True)

    PARTS: ClassVar[tuple[Part, ...]]
    SCALED: ClassVar[str] = ""
    """Our tensor that takes the scale."""
    WITHOUT_EFFECT: ClassVar[set[str]] = set()
    """Keys of this type that change nothing in what the adapter computes on our model, whatever their value."""
    WRITTEN: ClassVar[dict[str, Any]] = {"r": "k"}
    """What we write; of a name of an option, its value. A key at its default that an older PEFT may not know is not."""

    target_modules: Modules
    exclude_modules: list[str] | Annotated[str, Field(max_length=500)] | None = None
    bias: Literal["none"] = "none"
    r: int = 0

    def selects(self, layer: str) -> bool:
        """Whether PEFT puts the adapter on the layer."""
        return not matches(self.exclude_modules or [], layer) and matches(self.target_modules, layer)

    def unknown(self) -> str | None:
        """The first key, with its value, that lorabench cannot represent."""
        for key, value in (self.model_extra or {}).items():
            if value and key not in _WITHOUT_EFFECT | self.WITHOUT_EFFECT and not key.endswith("_dropout"):
                return f"{json.dumps(key)[1:-1][:60]} is {json.dumps(value)[:60]}"
        return None

    def parts(self, held: Tensors) -> tuple[Part, ...]:
        """What a layer must have of which the file has `held`, by PEFT's names."""
        return self.PARTS

    def rank(self, name: str) -> int:
        """The rank of the layer `name`."""
        return self.r

    def sizes(self, name: str, n: int, m: int, held: Tensors) -> dict[str, int]:
        """What the letters of the shapes stand for in the layer `name` of n inputs and m outputs; r is its rank."""
        return {"r": self.rank(name)}

    def scale(self, name: str) -> float:
        """What the tensor `SCALED` of the layer is multiplied by."""
        return 1

    def adapter(self, layers: Layers, k: int) -> Built:
        """The adapter in lorabench's terms, all its layers filled up with zeros to the highest rank, k.

        Raises:
            ValueError: lorabench cannot represent it; the message says why.
        """
        return type(self).__name__.lower(), {"k": k}, self.scaled(layers)

    def scaled(self, layers: Layers) -> dict[str, Tensor]:
        """The tensors of all layers, with the scale in one of them."""
        return {
            f"{name}.{ours}": tensor * self.scale(name) if ours == self.SCALED else tensor
            for name, layer in layers.items()
            for ours, tensor in layer.items()
        }

    @classmethod
    def settings(cls, o: Options) -> dict[str, Any]:
        """What the config says of our method."""
        return {key: o.get(value, value) if isinstance(value, str) else value for key, value in cls.WRITTEN.items()}

    @classmethod
    def stored(cls, layer: Tensors, o: Options) -> Tensors:
        """Our tensors of a layer, changed where PEFT's are not merely transposed."""
        return layer


class _Ranked(PeftType):
    """A type whose layers may have ranks and alphas of their own."""

    NEWER: ClassVar[str]
    """A key that only those releases of PEFT write that have today's rule for patterns."""

    rank_pattern: dict[str, Rank] | None = None
    alpha_pattern: dict[str, Alpha] | None = None

    def rank(self, name: str) -> int:
        return of_pattern(self.rank_pattern, name, self.r)

    def alpha_of(self, name: str, usual: float) -> float:
        """The layer's alpha.

        Raises:
            ValueError: before PEFT 0.15 it was another one, and nothing says who wrote it.
        """
        own, ranks = self.alpha_pattern or {}, self.rank_pattern or {}
        alpha = of_pattern(own, name, usual)
        # One key was looked for in both, of LoRA only a layer's whole name or what follows a dot in it.
        first = next((key for key in (*ranks, *own) if of_pattern({key: True}, name, False)), name)
        if {own.get(name, usual), own.get(first, usual)} != {alpha} and self.NEWER not in self.model_fields_set:
            raise ValueError(f"releases of PEFT read its alpha_pattern for {name} differently; name each layer in it")
        return alpha


class Lora(_Ranked):
    """LoRA, rsLoRA and DoRA. PEFT has LoRA from 0.3, rsLoRA from 0.7, DoRA from 0.9."""

    PARTS = (
        Part("A", "lora_A.weight", "rn", flipped=True),
        Part("B", "lora_B.weight", "mr", flipped=True),
        Part("g", "lora_magnitude_vector", "m"),
    )
    SCALED = "B"
    NEWER = "trainable_token_indices"
    WITHOUT_EFFECT = {"eva_config", "lora_ga_config", "megatron_core", "qalora_group_size"}

    r: Rank = 8
    lora_alpha: Alpha = 8
    use_rslora: bool = False
    use_dora: bool = False
    # The others (pissa, olora, corda, loftq, ...) change the base's weights when PEFT loads the adapter: measured.
    init_lora_weights: bool | Literal["gaussian", "eva", "orthogonal", "mica"] = True

    def parts(self, held: Tensors) -> tuple[Part, ...]:
        return self.PARTS if self.use_dora else self.PARTS[:2]

    def scale(self, name: str) -> float:
        r = self.rank(name)
        return self.alpha_of(name, self.lora_alpha) / (math.sqrt(r) if self.use_rslora else r)

    def adapter(self, layers: Layers, k: int) -> Built:
        """Our DoRA has no scale of its own, and the layers of our LoRA have one in common: the rest goes into B."""
        if self.use_dora:
            return "dora", {"k": k}, self.scaled(layers)
        alphas = {self.alpha_of(name, self.lora_alpha) for name in layers}
        if len(alphas) > 1 or len({self.rank(name) for name in layers}) > 1:
            return "lora", {"k": k, "alpha": float(k), "init": "kaiming"}, self.scaled(layers)
        tensors = {f"{name}.{ours}": tensor for name, layer in layers.items() for ours, tensor in layer.items()}
        options = {"k": k, "alpha": alphas.pop()}
        return ("rslora", options, tensors) if self.use_rslora else ("lora", {**options, "init": "kaiming"}, tensors)

    @classmethod
    def settings(cls, o: Options) -> dict[str, Any]:
        alpha = float(o.get("alpha", o["k"]))
        kept = {"rslora": {"use_rslora": True}, "dora": {"use_dora": True}}.get(o["method"], {})
        return {
            "r": o["k"],
            "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            **kept,
        }


class Vera(PeftType):
    """VeRA, which is read only. A run does not keep the frozen half, so what is read becomes the LoRA that it is."""

    PARTS = (
        Part("d", "vera_lambda_d", "r"),
        Part("b", "vera_lambda_b", "m"),
        Part("VA", "base_model.vera_A", "rN"),
        Part("VB", "base_model.vera_B", "Mr"),
    )
    WITHOUT_EFFECT = {"d_initial", "projection_prng_key"}

    r: Rank = 256
    save_projection: Literal[True] = True
    init_weights: bool = True

    def adapter(self, layers: Layers, k: int) -> Built:
        tensors: dict[str, Tensor] = {}
        for name, layer in layers.items():
            tensors[f"{name}.A"] = (layer["d"][:, None] * layer["VA"]).t()
            tensors[f"{name}.B"] = (layer["b"][:, None] * layer["VB"]).t()
        return "lora", {"k": k, "alpha": float(k), "init": "kaiming"}, tensors


class Ia3(PeftType):
    """(IA)³, from PEFT 0.4. The shape of l says whether it rescales inputs (1, n) or outputs (m, 1)."""

    PARTS = (Part("l", "ia3_l", "m1"), Part("l", "ia3_l", "1n"))
    WITHOUT_EFFECT = {"feedforward_modules", "init_ia3_weights"}

    def parts(self, held: Tensors) -> tuple[Part, ...]:
        return self.PARTS[1:] if rows(held, "ia3_l") == 1 else self.PARTS[:1]

    def adapter(self, layers: Layers, k: int) -> Built:
        places = {"in" if len(layer["l"]) == 1 else "out" for layer in layers.values()}
        if len(places) > 1:
            raise ValueError("it rescales the inputs of some layers and the outputs of others; lorabench does only one")
        return "ia3", {"place": places.pop()}, {f"{name}.l": layer["l"].flatten() for name, layer in layers.items()}

    @classmethod
    def settings(cls, o: Options) -> dict[str, Any]:
        return {"feedforward_modules": o["targets"] if o["place"] == "in" else []}

    @classmethod
    def stored(cls, layer: Tensors, o: Options) -> Tensors:
        return {"l": layer["l"][None] if o["place"] == "in" else layer["l"][:, None]}


class AdaLora(PeftType):
    """AdaLoRA, from PEFT 0.3. Where ranks were pruned, the tensors say which are left."""

    PARTS = (Part("P", "lora_B", "mr"), Part("E", "lora_E", "r1"), Part("Q", "lora_A", "rn"))
    SCALED = "E"
    WITHOUT_EFFECT = {
        *Lora.WITHOUT_EFFECT,
        *("target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight", "total_step"),
    }
    WRITTEN = {"init_r": "k", "target_r": "k", "lora_alpha": "k", "total_step": 100}

    init_r: Rank = 12
    lora_alpha: Alpha = 8
    rank_pattern: dict[str, list[bool]] | None = None
    init_lora_weights: bool = True

    def sizes(self, name: str, n: int, m: int, held: Tensors) -> dict[str, int]:
        return {"r": rows(held, "lora_E") if self.rank_pattern else self.init_r}

    def scale(self, name: str) -> float:
        return self.lora_alpha / (self.init_r + 1e-5)  # as PEFT has it

    def adapter(self, layers: Layers, k: int) -> Built:
        flat = {name: {**layer, "E": layer["E"].flatten()} for name, layer in layers.items()}
        return super().adapter(flat, k)

    @classmethod
    def stored(cls, layer: Tensors, o: Options) -> Tensors:
        return {**layer, "E": layer["E"][:, None] * ((o["k"] + 1e-5) / o["k"])}


class _Lycoris(_Ranked):
    NEWER = "peft_version"
    WRITTEN = {"r": "k", "alpha": "k"}

    r: Rank = 8
    alpha: Alpha = 8

    def scale(self, name: str) -> float:
        return self.alpha_of(name, self.alpha) / self.rank(name)


class LoHa(_Lycoris):
    """LoHa, from PEFT 0.6."""

    PARTS = (
        Part("A1", "hada_w1_b", "rn", flipped=True),
        Part("B1", "hada_w1_a", "mr", flipped=True),
        Part("A2", "hada_w2_b", "rn", flipped=True),
        Part("B2", "hada_w2_a", "mr", flipped=True),
    )
    SCALED = "B2"
    WITHOUT_EFFECT = {"use_effective_conv2d"}

    init_weights: bool = True


class LoKr(_Lycoris):
    """LoKr, from PEFT 0.6. Each of its two factors is one matrix or a product of two."""

    PARTS = (
        Part("C", "lokr_w1", "pq"),
        Part("C1", "lokr_w1_a", "pr"),
        Part("C2", "lokr_w1_b", "rq"),
        Part("D", "lokr_w2", "uv"),
        Part("D1", "lokr_w2_a", "ur"),
        Part("D2", "lokr_w2_b", "rv"),
    )
    SCALED = "C"
    WITHOUT_EFFECT = {"rank_dropout_scale", "use_effective_conv2d", "decompose_both"}

    init_weights: bool | Literal["lycoris"] = True
    decompose_factor: Literal[-1] = -1

    def parts(self, held: Tensors) -> tuple[Part, ...]:
        left = self.PARTS[1:3] if "lokr_w1_a" in held else self.PARTS[:1]
        return left + (self.PARTS[3:4] if "lokr_w2" in held else self.PARTS[4:])

    def sizes(self, name: str, n: int, m: int, held: Tensors) -> dict[str, int]:
        (q, v), (p, u) = square(n), square(m)
        return {"p": p, "q": q, "u": u, "v": v, "r": self.rank(name)}

    def adapter(self, layers: Layers, k: int) -> Built:
        ours: dict[str, Tensors] = {}
        k = max(self.r, *(min(layer["D"].shape) if "D" in layer else layer["D1"].shape[1] for layer in layers.values()))
        for name, layer in layers.items():
            if self.scale(name) != 1 and "exclude_modules" not in self.model_fields_set:
                raise ValueError(f"PEFT before 0.14, which saved it, leaves alpha out in LoKr; set it to r of {name}")
            left = layer["C"] if "C" in layer else layer["C1"] @ layer["C2"]
            if "D" in layer:  # one matrix is the product of itself and the identity
                whole, identity = layer["D"], torch.eye(min(layer["D"].shape))
                pair = (whole, identity) if whole.shape[1] < len(whole) else (identity, whole)
            else:
                pair = layer["D1"], layer["D2"]
            ours[name] = {"C": left, "D1": padded(pair[0], k, 1), "D2": padded(pair[1], k, 0)}
        return super().adapter(ours, k)

    @classmethod
    def stored(cls, layer: Tensors, o: Options) -> Tensors:
        whole = o["k"] >= max(len(layer["D1"]), layer["D2"].shape[1]) / 2  # where PEFT trains one matrix
        return {"C": layer["C"], "D": layer["D1"] @ layer["D2"]} if whole else layer


class Hira(PeftType):
    """HiRA, from PEFT 0.20. PEFT 0.21.2 saves `rank_pattern` and does not follow it: the tensors say the rank."""

    PARTS = (Part("A", "hira_A", "rn", flipped=True), Part("B", "hira_B", "mr", flipped=True))
    WITHOUT_EFFECT = {"rank_pattern"}

    r: Rank = 32
    init_weights: bool | Literal["gaussian"] | None = True

    def sizes(self, name: str, n: int, m: int, held: Tensors) -> dict[str, int]:
        return {"r": rows(held, "hira_A") or self.r}


class Oft(PeftType):
    """OFT, from PEFT 0.16. The shape of S says how many blocks there are; PEFT's R is the transpose of the paper's."""

    PARTS = (Part("S", "oft_R.weight", "bs"),)
    SCALED = "S"
    WITHOUT_EFFECT = {"eps", "num_cayley_neumann_terms", "oft_block_size"}
    WRITTEN = {"r": 0, "oft_block_size": "block", "use_cayley_neumann": False}

    init_weights: bool = True
    use_cayley_neumann: Literal[False] = Field(True, validate_default=True)  # PEFT's default is an approximation

    def sizes(self, name: str, n: int, m: int, held: Tensors) -> dict[str, int]:
        blocks = rows(held, "oft_R.weight") or 1
        block = n // blocks
        return {"b": blocks, "s": block * (block - 1) // 2}

    def scale(self, name: str) -> float:
        return -1

    def adapter(self, layers: Layers, k: int) -> Built:
        blocks = {(1 + math.isqrt(1 + 8 * layer["S"].shape[1])) // 2 for layer in layers.values()}
        if len(blocks) > 1 or not 2 <= min(blocks) <= 256:
            sizes = ", ".join(map(str, sorted(blocks)))
            raise ValueError(f"its blocks are of {sizes}; lorabench has one size, of 2 to 256")
        return "oft", {"block": blocks.pop()}, self.scaled(layers)

    @classmethod
    def stored(cls, layer: Tensors, o: Options) -> Tensors:
        return {"S": -layer["S"]}


class Miss(PeftType):
    """MiSS, from PEFT 0.17."""

    PARTS = (Part("D", "miss_block", "rm"),)
    WITHOUT_EFFECT = {"mini_r"}

    r: Rank = 64
    init_weights: bool = True


TYPES: dict[str, type[PeftType]] = {
    kind.__name__.upper(): kind for kind in (Lora, Vera, Ia3, AdaLora, LoHa, LoKr, Hira, Oft, Miss)
}
"""By PEFT's `peft_type`, which is also the name of our method, in capitals."""


def matches(modules: str | Collection[str], name: str) -> bool:
    """PEFT's rule: a text is a pattern for the whole name, or `all-linear`; in a list are names and their endings."""
    if not isinstance(modules, str):
        return any(name == module or name.endswith(f".{module}") for module in modules)
    try:
        return modules == "all-linear" or re.fullmatch(modules, name) is not None
    except re.error:
        return False


def of_pattern(pattern: Mapping[str, Any] | None, name: str, usual: Any) -> Any:
    """What `rank_pattern` or `alpha_pattern` says of a layer, by PEFT's rule; `usual` where it says nothing."""
    for key, value in (pattern or {}).items():
        try:
            if len(key) <= 500 and re.match(rf"(.*\.)?({key})$", name):
                return value
        except re.error:
            continue
    return usual


def rows(held: Tensors, name: str) -> int:
    """The first length of the tensor of that name; 0 if there is none."""
    return len(held[name]) if name in held and held[name].ndim else 0


def padded(tensor: Tensor, k: int, axis: int) -> Tensor:
    """`tensor`, filled up with zeros along `axis` to k."""
    return F.pad(tensor, (*[0, 0] * (tensor.ndim - 1 - axis), 0, k - tensor.shape[axis]))
