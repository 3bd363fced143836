"""The methods that lorabench knows, as data: names, papers, options, formulas. No torch in here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

Shapes = Sequence[tuple[int, int]]
"""(inputs, outputs) of every linear layer that a method is applied to."""
Options = Mapping[str, Any]
"""A method's own settings, complete."""

Rank = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


RESERVED = frozenset(
    {"method", "targets", "epochs", "batch_size", "lr", "warmup", "seed", "options"}  # of the recipe
    | {"base", "data", "stage", "holdout", "mnist", "tensors_sha256"}  # of a run's record
)
"""Names that no option may have: options stand beside these, and one of the same name would take its place."""


def since(version: str, annotation: Any, default: Any) -> tuple[Any, Any]:
    """An option that a method has since `version` of lorabench, as `Method.options` takes it.

    At its default it stands in no id and no record, so that what was made without it stays what it is.
    """
    return Annotated[annotation, Field(json_schema_extra={"since": version})], default


@dataclass(frozen=True)
class Exemption:
    """A clause of the contract that a method rightly breaks, and why.

    Attributes:
        clause: `birth`, a fresh method leaves the logits as they are; `merge`, it folds into plain linear layers.
        reason: why not; what a user reads.
        when: the options with which it breaks the clause; empty for always.
        absolute: how far the logits may be off at birth.
        relative: the same, as a share of the largest logit.
    """

    clause: Literal["birth", "merge"]
    reason: str
    when: Options = field(default_factory=dict[str, Any])
    absolute: float = 0.0
    relative: float = 0.0


def every(layers: Sequence[str], options: Options) -> Sequence[str]:
    """All linear layers: where most methods go when no targets are named."""
    del options
    return layers


def nothing(shapes: Shapes, options: Options) -> int:
    """No parameters."""
    del shapes, options
    return 0


class Products(NamedTuple):
    """Multiply-adds of one example's matrix products in a layer of n inputs and m outputs, its own weight included.

    Attributes:
        forward: a plain layer makes nm.
        backward: where the gradient goes on to what stands below; a frozen layer makes nm.
        lowest: the backward where nothing below is trained and the gradient ends; a frozen layer makes none.
    """

    forward: int
    backward: int
    lowest: int


@dataclass(frozen=True)
class Method:
    """One entry of the registry.

    Attributes:
        title: the method's name as its authors write it.
        paper: authors, year and arXiv number.
        options: the method's own settings, with types and defaults, as pydantic's `create_model` takes them; one that
            is added to a method that has runs already is written `since(...)`.
        formula: the number of trainable parameters, of the shapes of the targeted linear layers and the options.
        lr: the learning rate chosen for the default recipe on held-out training images (runs/README.md).
        where: which of the layers within its reach are targeted when none are named, of their names in order.
        reach: what it trains or adapts: `linear` layers, all `parameters` of any module, or all `biases`.
        also: classes of layers that it adapts beside linear ones, when they are named.
        low_rank: a rank k above the smaller side of a layer adds nothing to what it can reach.
        in_place: it trains parameters that the layers have anyway, their biases among them, and adds none.
        frozen: the number of parameters that it adds and does not train.
        products: multiply-adds of one example in a layer of n inputs and m outputs that it is applied to; None if it
            makes a weight anew in each step, which a batch shares.
        exemptions: where it rightly breaks the contract.
    """

    title: str
    paper: str
    options: dict[str, Any]
    formula: Callable[[Shapes, Options], int]
    lr: float
    where: Callable[[Sequence[str], Options], Sequence[str]] = every
    reach: Literal["linear", "parameters", "biases"] = "linear"
    also: tuple[str, ...] = ()
    low_rank: bool = False
    in_place: bool = False
    frozen: Callable[[Shapes, Options], int] = nothing
    products: Callable[[int, int, Options], Products] | None = None
    exemptions: tuple[Exemption, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an option that would take a setting of the recipe away from it."""
        if taken := sorted(RESERVED & self.options.keys()):
            raise ValueError(
                f"{self.title}: an option cannot be called {', '.join(taken)}: that is a setting of every run"
            )


def _sides(shapes: Shapes, o: Options) -> int:
    """A (n, k) and B (k, m) in every layer."""
    return sum(o["k"] * (n + m) for n, m in shapes)


def _side_products(n: int, m: int, o: Options) -> Products:
    """x A B forward; backward the gradients of A and B by way of g Bᵀ, and that times Aᵀ for what is passed on."""
    side = o["k"] * (n + m)
    return Products(n * m + side, n * m + 2 * side, o["k"] * (n + 2 * m))


def _weight_products(n: int, m: int, o: Options) -> Products:
    """Backward the gradient of W, and g W for what is passed on."""
    del o
    return Products(n * m, 2 * n * m, n * m)


def _output_products(n: int, m: int, o: Options) -> Products:
    """A vector after W: its gradient needs no product."""
    del o
    return Products(n * m, n * m, 0)


def _input_products(n: int, m: int, o: Options) -> Products:
    """A vector before W: its gradient comes through W."""
    del o
    return Products(n * m, n * m, n * m)


def _prompt(shapes: Shapes, o: Options) -> int:
    """One value per input; of an image of s x s, only the frame of 4 pixels: 4·4·(s − 4)."""
    return sum(16 * (math.isqrt(n) - 4) if o["variant"] == "border" else n for n, _ in shapes)


def square(n: int) -> tuple[int, int]:
    """n as a product of two whole numbers as near to each other as can be, the smaller first."""
    small = next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
    return small, n // small


def _kronecker(shapes: Shapes, o: Options) -> int:
    """C (m1, n1), and D (m2, n2) as a product of rank k, in every layer."""
    factors = [(*square(n), *square(m)) for n, m in shapes]
    return sum(m1 * n1 + o["k"] * (m2 + n2) for n1, n2, m1, m2 in factors)


METHODS: dict[str, Method] = {
    "lora": Method(
        title="LoRA",
        paper="Hu et al. 2021, arXiv:2106.09685",
        options={
            "k": (Rank, 4),
            "init": (Literal["talk", "kaiming", "gaussian"], "talk"),
            "alpha": (Positive | None, None),
        },
        formula=_sides,
        products=_side_products,
        lr=0.03,
        low_rank=True,
    ),
    "full": Method(
        title="full fine-tuning",
        paper="the usual way, no paper",
        options={},
        formula=lambda shapes, o: sum(n * m + m for n, m in shapes),
        reach="parameters",
        in_place=True,
        products=_weight_products,
        lr=0.01,
    ),
    "adapter": Method(
        title="adapter layers",
        paper="Houlsby et al. 2019, arXiv:1902.00751",
        options={"bottleneck": (Rank, 8), "init": (Literal["houlsby", "zero"], "houlsby")},
        formula=lambda shapes, o: sum(2 * n * o["bottleneck"] + o["bottleneck"] + n for n, _ in shapes),
        products=lambda n, m, o: Products(
            n * (m + 2 * o["bottleneck"]), n * (m + 4 * o["bottleneck"]), n * (m + 3 * o["bottleneck"])
        ),
        lr=0.01,
        where=lambda layers, o: layers[1:],
        exemptions=(
            Exemption(
                "birth",
                "D and U are drawn from N(0, 0.01²), so that a new adapter is close to the identity, not equal to it",
                when={"init": "houlsby"},
                absolute=0.1,
            ),
            Exemption("merge", "an adapter layer has a ReLU inside, and no linear layer computes that"),
        ),
    ),
    "prompt": Method(
        title="prompt optimisation",
        paper="Bahng et al. 2022, arXiv:2203.17274; reprogram: Elsayed et al. 2018, arXiv:1806.11146; "
        "deep: after Li & Liang 2021, arXiv:2101.00190",
        options={"variant": (Literal["additive", "border", "reprogram", "deep"], "additive")},
        formula=_prompt,
        products=_input_products,
        lr=0.1,
        where=lambda layers, o: layers if o["variant"] == "deep" else layers[:1],
        exemptions=(
            Exemption(
                "merge",
                "a reprogrammed input is clamped to [0, 1], and no linear layer computes that",
                when={"variant": "reprogram"},
            ),
        ),
    ),
    "bitfit": Method(
        title="BitFit",
        paper="Ben Zaken et al. 2021, arXiv:2106.10199",
        options={},
        formula=lambda shapes, o: sum(m for _, m in shapes),
        reach="biases",
        in_place=True,
        products=_output_products,
        lr=0.1,
    ),
    "head": Method(
        title="linear probe",
        paper="Alain & Bengio 2016, arXiv:1610.01644",
        options={},
        formula=lambda shapes, o: sum(n * m + m for n, m in shapes),
        in_place=True,
        products=_weight_products,
        lr=0.003,
        where=lambda layers, o: layers[-1:],
    ),
    "rslora": Method(
        title="rsLoRA",
        paper="Kalajdzievski 2023, arXiv:2312.03732",
        options={"k": (Rank, 4), "alpha": (Positive, 2.0)},
        formula=_sides,
        products=_side_products,
        lr=0.01,
        low_rank=True,
    ),
    "lora-plus": Method(
        title="LoRA+",
        paper="Hayou et al. 2024, arXiv:2402.12354",
        options={"k": (Rank, 4), "ratio": (Positive, 16.0)},
        formula=_sides,
        products=_side_products,
        lr=0.003,
        low_rank=True,
    ),
    "lora-fa": Method(
        title="LoRA-FA",
        paper="Zhang et al. 2023, arXiv:2308.03303",
        options={"k": (Rank, 4)},
        formula=lambda shapes, o: sum(o["k"] * m for _, m in shapes),
        frozen=lambda shapes, o: sum(o["k"] * n for n, _ in shapes),
        products=lambda n, m, o: Products(n * m + o["k"] * (n + m), n * m + o["k"] * (n + 2 * m), o["k"] * m),
        lr=0.1,
        low_rank=True,
    ),
    "dora": Method(
        title="DoRA",
        paper="Liu et al. 2024, arXiv:2402.09353",
        options={"k": (Rank, 4)},
        formula=lambda shapes, o: sum(o["k"] * (n + m) + m for n, m in shapes),
        lr=0.03,
        low_rank=True,
    ),
    "pissa": Method(
        title="PiSSA",
        paper="Meng et al. 2024, arXiv:2404.02948",
        options={"k": (Rank, 4)},
        formula=_sides,
        products=_side_products,
        lr=0.03,
        low_rank=True,
        exemptions=(Exemption("birth", "W0 is W_res + (AB)ᵀ only up to rounding", relative=1e-6),),
    ),
    "olora": Method(
        title="OLoRA",
        paper="Büyükakyüz 2024, arXiv:2406.01775",
        options={"k": (Rank, 4)},
        formula=_sides,
        products=_side_products,
        lr=0.03,
        low_rank=True,
        exemptions=(Exemption("birth", "W0 is W_res + (AB)ᵀ only up to rounding", relative=1e-6),),
    ),
    "vera": Method(
        title="VeRA",
        paper="Kopiczko et al. 2023, arXiv:2310.11454",
        options={"k": (Rank, 256)},
        formula=lambda shapes, o: sum(m + o["k"] for _, m in shapes),
        frozen=lambda shapes, o: o["k"] * (max(n for n, _ in shapes) + max(m for _, m in shapes)),
        products=lambda n, m, o: Products(n * m + o["k"] * (n + m), n * m + o["k"] * (n + m), o["k"] * m),
        lr=0.03,
    ),
    "ia3": Method(
        title="(IA)³",
        paper="Liu et al. 2022, arXiv:2205.05638",
        options={"place": (Literal["out", "in"], "out")},
        formula=lambda shapes, o: sum(m if o["place"] == "out" else n for n, m in shapes),
        products=lambda n, m, o: (_output_products if o["place"] == "out" else _input_products)(n, m, o),
        lr=0.3,
    ),
    "adalora": Method(
        title="AdaLoRA",
        paper="Zhang et al. 2023, arXiv:2303.10512",
        options={
            "k": (Rank, 4),
            "keep": (Annotated[float, Field(gt=0, le=1)], 2 / 3),
            "gamma": (Annotated[float, Field(ge=0, allow_inf_nan=False)], 0.1),
        },
        formula=lambda shapes, o: sum(o["k"] * (n + m + 1) for n, m in shapes),
        products=_side_products,
        lr=0.03,
        low_rank=True,
    ),
    "loha": Method(
        title="LoHa",
        paper="Hyeon-Woo et al. 2021, arXiv:2108.06098; Yeh et al. 2023, arXiv:2309.14859",
        options={"k": (Rank, 4)},
        formula=lambda shapes, o: 2 * _sides(shapes, o),
        lr=0.03,
    ),
    "lokr": Method(
        title="LoKr",
        paper="Yeh et al. 2023, arXiv:2309.14859",
        options={"k": (Rank, 4)},
        formula=_kronecker,
        lr=0.03,
    ),
    "hira": Method(
        title="HiRA",
        paper="Huang et al. 2025, ICLR",
        options={"k": (Rank, 4)},
        formula=_sides,
        lr=0.1,
    ),
    "oft": Method(
        title="OFT",
        paper="Qiu et al. 2023, arXiv:2306.07280",
        options={"block": (Annotated[int, Field(ge=2, le=256)], 4)},
        formula=lambda shapes, o: sum(n * (o["block"] - 1) // 2 for n, _ in shapes),
        lr=0.01,
    ),
    "miss": Method(
        title="MiSS",
        paper="Kang & Yin 2024, arXiv:2409.15371",
        options={"k": (Rank, 4)},
        formula=lambda shapes, o: sum(o["k"] * m for _, m in shapes),
        products=lambda n, m, o: Products(n * m + o["k"] * m, n * m + 2 * o["k"] * m, o["k"] * m),
        lr=0.01,
        low_rank=True,
    ),
}
