"""The methods that lorabench knows, as data: names, papers, options, what they put into a layer. No torch in here."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, create_model

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Shapes = Sequence[tuple[int, int]]
"""(inputs, outputs) of every linear layer that a method is applied to."""
Options = Mapping[str, Any]
"""A method's own settings, complete."""

Rank = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]


RESERVED = frozenset(
    {"method", "targets", "epochs", "batch_size", "lr", "warmup", "seed", "options"}  # of the recipe
    | {"base", "data", "stage", "holdout", "mnist", "tensors_sha256"}  # of a run's record
    | {"also_train"}  # of `methods.apply`, beside the options as targets are
)
"""Names that no option may have: options stand beside these, and one of the same name would take its place."""


def since(version: str, annotation: Any, default: Any) -> tuple[Any, Any]:
    """An option that a method has since `version` of lorabench, as `Method.options` takes it.

    At its default it stands in no id and no record, so that what was made without it stays what it is.
    """
    return Annotated[annotation, Field(json_schema_extra={"since": version})], default


def came_later(setting: FieldInfo) -> bool:
    """Whether the setting was declared by `since`, or as that does."""
    return isinstance(setting.json_schema_extra, dict) and "since" in setting.json_schema_extra


@dataclass(frozen=True)
class Exemption:
    """A clause of the contract that a method rightly breaks, and why.

    Attributes:
        clause: `birth`, a fresh method leaves the logits as they are; `merge`, it folds into plain linear layers;
            `mix`, what it changes in the weights adds to what others change.
        reason: why not; what a user reads.
        when: the options with which it breaks the clause; empty for always.
        absolute: how far the logits may be off at birth.
        relative: the same, as a share of the largest logit.
    """

    clause: Literal["birth", "merge", "mix"]
    reason: str
    when: Options = field(default_factory=dict[str, Any])
    absolute: float = 0.0
    relative: float = 0.0


MULTIPLIES = Exemption("mix", "it multiplies a layer's weight, and two such changes multiply instead of adding up")


def every(layers: Sequence[str], options: Options) -> Sequence[str]:
    """All linear layers: where most methods go when no targets are named."""
    del options
    return layers


class Part(NamedTuple):
    """What a layer multiplies by: a matrix of shape (inputs, outputs), or a vector (values,).

    `trained` by the method; or frozen, and then `added` by it or the layer's own. `name` is its symbol in the formula.
    """

    shape: tuple[int, ...]
    trained: bool = True
    added: bool = True
    name: str = ""

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return math.prod(self.shape)

    @property
    def products(self) -> int:
        """Multiply-adds of one example: a matrix makes one for each parameter; a vector's are not counted."""
        return self.size if len(self.shape) == 2 else 0


Layer = Sequence[Sequence[Part]]
"""What a layer computes: the sum of paths, each of them parts that are applied one after the other."""


def trained(*shape: int, name: str = "") -> Part:
    """A part that the method trains."""
    return Part(shape, name=name)


def frozen(*shape: int, name: str = "") -> Part:
    """A part that the method draws and does not train."""
    return Part(shape, trained=False, name=name)


def own(n: int, m: int, name: str = "W0") -> Part:
    """The layer's own weight, frozen."""
    return Part((n, m), trained=False, added=False, name=name)


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


def _backward(layer: Layer, *, below: bool) -> int:
    """Multiply-adds of the gradients: of each trained part, and through each part above something trained."""
    made = 0
    for path in layer:
        needed = below
        for part in path:
            made += part.products * (part.trained + needed)
            needed |= part.trained
    return made


@dataclass(frozen=True)
class Method:
    """One entry of the registry.

    Attributes:
        title: the method's name as its authors write it.
        formula: what a layer with weight W0 computes, or its weight, in the paper's symbols.
        paper: authors, year and arXiv number.
        options: the method's own settings, with types and defaults, as pydantic's `create_model` takes them; one that
            is added to a method that has runs already is written `since(...)`.
        layer: what it makes of a linear layer of n inputs and m outputs with a bias; its counts follow.
        lr: the learning rate chosen for the default recipe on held-out training images (runs/README.md).
        lr_of: the options, as far as they matter, of variants that need another one, each with its rate.
        where: which of the layers within its reach are targeted when none are named, of their names in order.
        reach: what it trains or adapts: `linear` layers, all `parameters` of any module, or all `biases`.
        low_rank: a rank k above the smaller side of a layer adds nothing to what it can reach.
        wider: it adapts `nn.Conv2d` and `nn.Embedding` too, where they are named.
        in_place: it trains parameters that the layers have anyway, their biases among them, and adds none.
        shared: what it adds and does not train is there once, as large as the largest layer needs.
        remakes: it makes a weight of its parts in each step, which a batch shares, so that an example has no products.
        exemptions: where it rightly breaks the contract.
    """

    title: str
    formula: str
    paper: str
    options: dict[str, Any]
    layer: Callable[[int, int, Options], Layer]
    lr: float
    lr_of: Sequence[tuple[Options, float]] = ()
    where: Callable[[Sequence[str], Options], Sequence[str]] = every
    reach: Literal["linear", "parameters", "biases"] = "linear"
    low_rank: bool = False
    wider: bool = False
    in_place: bool = False
    shared: bool = False
    remakes: bool = False
    exemptions: tuple[Exemption, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an option that would take a setting of the recipe away from it."""
        if taken := sorted(RESERVED & self.options.keys()):
            raise ValueError(
                f"{self.title}: an option cannot be called {', '.join(taken)}: that is a setting of every run"
            )

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        """The pydantic model of the method's own settings."""
        config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
        return create_model(self.title, __config__=config, **self.options)

    @property
    def defaults(self) -> dict[str, Any]:
        """The method's own settings where nothing is said of them."""
        return self.model().model_dump()

    def rate(self, options: Options) -> float:
        """The learning rate for these (complete) options."""
        return next((lr for when, lr in self.lr_of if when.items() <= options.items()), self.lr)

    def trainable(self, shapes: Shapes, options: Options) -> int:
        """The number of parameters that it trains in layers of these shapes with biases."""
        return sum(part.size for n, m in shapes for path in self.layer(n, m, options) for part in path if part.trained)

    def frozen(self, shapes: Shapes, options: Options) -> int:
        """The number of parameters that it adds to them and does not train."""
        layers = [
            [part.shape for path in self.layer(n, m, options) for part in path if part.added and not part.trained]
            for n, m in shapes
        ]
        if self.shared:
            layers = [[tuple(map(max, zip(*same, strict=True))) for same in zip(*layers, strict=True)]]
        return sum(math.prod(shape) for layer in layers for shape in layer)

    def products(self, n: int, m: int, options: Options) -> Products | None:
        """Multiply-adds of one example in a layer; None if it `remakes` its weight."""
        if self.remakes:
            return None
        layer = self.layer(n, m, options)
        forward = sum(part.products for path in layer for part in path)
        return Products(forward, _backward(layer, below=True), _backward(layer, below=False))

    def exemption(self, clause: Literal["birth", "merge", "mix"], options: Options) -> Exemption | None:
        """Why the method, with these (complete) options, does not hold to this clause; None: it does."""
        fitting = (e for e in self.exemptions if e.clause == clause and e.when.items() <= options.items())
        return next(fitting, None)


def _weight(n: int, m: int, o: Options) -> Layer:
    """W and b themselves."""
    del o
    return [[trained(n, m, name="W"), trained(m, name="b")]]


def _low_rank(n: int, m: int, o: Options) -> Layer:
    """A (n, k) and B (k, m) beside W."""
    return [[own(n, m)], [trained(n, o["k"], name="A"), trained(o["k"], m, name="B")]]


def _residual(n: int, m: int, o: Options) -> Layer:
    """The same beside what they leave of W."""
    return [[own(n, m, "W_res")], *_low_rank(n, m, o)[1:]]


def _adapter(n: int, m: int, o: Options) -> Layer:
    """D and U with their biases, before W."""
    w = o["bottleneck"]
    down, up = [trained(n, w, name="D"), trained(w, name="d")], [trained(w, n, name="U"), trained(n, name="u")]
    return [[*down, *up, own(n, m)]]


def _prompt(n: int, m: int, o: Options) -> Layer:
    """One value per input; of an image of s x s, only the frame of 4 pixels: 4·4·(s − 4)."""
    return [[trained(16 * (math.isqrt(n) - 4) if o["variant"] == "border" else n, name="v"), own(n, m)]]


def square(n: int) -> tuple[int, int]:
    """n as a product of two whole numbers as near to each other as can be, the smaller first."""
    small = next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
    return small, n // small


def _kronecker(n: int, m: int, o: Options) -> Layer:
    """C (m1, n1), and B A (m2, n2) of rank k."""
    (n1, n2), (m1, m2) = square(n), square(m)
    return [[own(n, m)], [trained(n2, o["k"], name="A"), trained(o["k"], m2, name="B"), trained(n1, m1, name="C")]]


def _random_bases(n: int, m: int, o: Options) -> Layer:
    """A (k, p) and B (q, kN) of full rank N k ≥ p, p and q the shorter and the longer side; Λ (k, N) and Γ (N, p)."""
    (p, q), k = sorted((n, m)), o["k"]
    N = -(-p // k)
    return [
        [own(n, m)],
        [trained(N * p, name="Γ"), frozen(p, k, name="A"), trained(k * N, name="Λ"), frozen(k * N, q, name="B")],
    ]


METHODS: dict[str, Method] = {
    "lora": Method(
        title="LoRA",
        formula="h = W0 x + B A x; with alpha: α/k B A x",
        paper="Hu et al. 2021, arXiv:2106.09685",
        options={
            "k": (Rank, 4),
            "init": (Literal["talk", "kaiming", "gaussian", "orthogonal"], "talk"),
            "alpha": (Positive | None, None),
            "dropout": since("1.1", Annotated[float, Field(ge=0, lt=1)], 0.0),
        },
        layer=_low_rank,
        lr=0.03,
        lr_of=[({"init": "orthogonal"}, 0.01)],
        low_rank=True,
        wider=True,
        exemptions=(Exemption("birth", "AB is zero only up to rounding", when={"init": "orthogonal"}, relative=1e-6),),
    ),
    "full": Method(
        title="full fine-tuning",
        formula="h = W x + b, from W0 and b0 on",
        paper="the usual way, no paper",
        options={},
        layer=_weight,
        reach="parameters",
        in_place=True,
        lr=0.01,
    ),
    "adapter": Method(
        title="adapter layers",
        formula="W0 (x + U relu(D x + d) + u)",
        paper="Houlsby et al. 2019, arXiv:1902.00751",
        options={"bottleneck": (Rank, 8), "init": (Literal["houlsby", "zero"], "houlsby")},
        layer=_adapter,
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
        formula="h = W0 (x + v); border: v on a frame of 4 pixels; reprogram: W0 clamp(x + tanh(v)); "
        "deep: each layer its v",
        paper="Bahng et al. 2022, arXiv:2203.17274; reprogram: Elsayed et al. 2018, arXiv:1806.11146; "
        "deep: after Li & Liang 2021, arXiv:2101.00190",
        options={"variant": (Literal["additive", "border", "reprogram", "deep"], "additive")},
        layer=_prompt,
        lr=0.1,
        lr_of=[({"variant": "border"}, 0.3)],
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
        formula="h = W0 x + b, b alone trained",
        paper="Ben Zaken et al. 2021, arXiv:2106.10199",
        options={},
        layer=lambda n, m, o: [[own(n, m), trained(m, name="b")]],
        reach="biases",
        in_place=True,
        lr=0.1,
    ),
    "head": Method(
        title="linear probe",
        formula="softmax(W x + b), the last layer alone",
        paper="Alain & Bengio 2016, arXiv:1610.01644",
        options={},
        layer=_weight,
        in_place=True,
        lr=0.003,
        where=lambda layers, o: layers[-1:],
    ),
    "rslora": Method(
        title="rsLoRA",
        formula="h = W0 x + α/√k B A x",
        paper="Kalajdzievski 2023, arXiv:2312.03732",
        options={"k": (Rank, 4), "alpha": (Positive, 2.0)},
        layer=_low_rank,
        lr=0.01,
        low_rank=True,
    ),
    "lora-plus": Method(
        title="LoRA+",
        formula="h = W0 x + B A x, learning rates η_B = λ η_A, λ: ratio",
        paper="Hayou et al. 2024, arXiv:2402.12354",
        options={"k": (Rank, 4), "ratio": (Positive, 16.0)},
        layer=_low_rank,
        lr=0.003,
        low_rank=True,
    ),
    "lora-fa": Method(
        title="LoRA-FA",
        formula="h = W0 x + B A x, A frozen as it was drawn",
        paper="Zhang et al. 2023, arXiv:2308.03303",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [[own(n, m)], [frozen(n, o["k"], name="A"), trained(o["k"], m, name="B")]],
        lr=0.1,
        lr_of=[({"k": 16}, 0.03)],
        low_rank=True,
    ),
    "dora": Method(
        title="DoRA",
        formula="W' = g (W0 + B A) / ‖W0 + B A‖, row by row; g, m in the paper: magnitudes",
        paper="Liu et al. 2024, arXiv:2402.09353",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [*_low_rank(n, m, o), [trained(m, name="g")]],
        remakes=True,
        lr=0.03,
        low_rank=True,
        exemptions=(MULTIPLIES,),
    ),
    "pissa": Method(
        title="PiSSA",
        formula="W' = W_res + B A, at first W0: B A its k largest singular values, W_res the others",
        paper="Meng et al. 2024, arXiv:2404.02948",
        options={"k": (Rank, 4)},
        layer=_residual,
        lr=0.03,
        low_rank=True,
        exemptions=(Exemption("birth", "W0 is W_res + (AB)ᵀ only up to rounding", relative=1e-6),),
    ),
    "olora": Method(
        title="OLoRA",
        formula="W' = W_res + B A, at first W0 = Q R: B the first k columns of Q, A rows of R",
        paper="Büyükakyüz 2024, arXiv:2406.01775",
        options={"k": (Rank, 4)},
        layer=_residual,
        lr=0.03,
        low_rank=True,
        exemptions=(Exemption("birth", "W0 is W_res + (AB)ᵀ only up to rounding", relative=1e-6),),
    ),
    "vera": Method(
        title="VeRA",
        formula="h = W0 x + Λ_b B Λ_d A x, B and A random, shared, frozen",
        paper="Kopiczko et al. 2023, arXiv:2310.11454",
        options={"k": (Rank, 256)},
        layer=lambda n, m, o: [
            [own(n, m)],
            [
                frozen(n, o["k"], name="A"),
                trained(o["k"], name="Λ_d"),
                frozen(o["k"], m, name="B"),
                trained(m, name="Λ_b"),
            ],
        ],
        lr=0.03,
        shared=True,
    ),
    "ia3": Method(
        title="(IA)³",
        formula="l ⊙ (W0 x + b); in: W0 (l ⊙ x) + b",
        paper="Liu et al. 2022, arXiv:2205.05638",
        options={"place": (Literal["out", "in"], "out")},
        layer=lambda n, m, o: [
            [own(n, m), trained(m, name="l")] if o["place"] == "out" else [trained(n, name="l"), own(n, m)]
        ],
        lr=0.3,
        lr_of=[({"place": "in"}, 0.1)],
        exemptions=(MULTIPLIES,),
    ),
    "adalora": Method(
        title="AdaLoRA",
        formula="W' = W0 + P Λ Q, the least important of Λ set to 0",
        paper="Zhang et al. 2023, arXiv:2303.10512",
        options={
            "k": (Rank, 4),
            "keep": (Annotated[float, Field(gt=0, le=1)], 2 / 3),
            "gamma": (Annotated[float, Field(ge=0, allow_inf_nan=False)], 0.1),
        },
        layer=lambda n, m, o: [
            [own(n, m)],
            [trained(n, o["k"], name="Q"), trained(o["k"], name="Λ"), trained(o["k"], m, name="P")],
        ],
        lr=0.03,
        low_rank=True,
    ),
    "loha": Method(
        title="LoHa",
        formula="W' = W0 + (B1 A1) ⊙ (B2 A2)",
        paper="Hyeon-Woo et al. 2021, arXiv:2108.06098; Yeh et al. 2023, arXiv:2309.14859",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [
            [own(n, m)],
            *([trained(n, o["k"], name=f"A{i}"), trained(o["k"], m, name=f"B{i}")] for i in (1, 2)),
        ],
        remakes=True,
        lr=0.03,
    ),
    "lokr": Method(
        title="LoKr",
        formula="W' = W0 + C ⊗ (B A)",
        paper="Yeh et al. 2023, arXiv:2309.14859",
        options={"k": (Rank, 4)},
        layer=_kronecker,
        remakes=True,
        lr=0.03,
    ),
    "hira": Method(
        title="HiRA",
        formula="W' = W0 + W0 ⊙ (B A)",
        paper="Huang et al. 2025, ICLR",
        options={"k": (Rank, 4)},
        layer=_low_rank,
        remakes=True,
        lr=0.1,
    ),
    "oft": Method(
        title="OFT",
        formula="h = W0 Rᵀ x, R = diag(R_1, R_2, ...), R_i = (I + Q_i)(I - Q_i)⁻¹, Q_i skew-symmetric",
        paper="Qiu et al. 2023, arXiv:2306.07280",
        options={"block": (Annotated[int, Field(ge=2, le=256)], 4)},
        layer=lambda n, m, o: [[trained(n * (o["block"] - 1) // 2, name="Q"), own(n, m)]],
        remakes=True,
        lr=0.01,
        exemptions=(MULTIPLIES,),
    ),
    "miss": Method(
        title="MiSS",
        formula="W' = W0 + expand(D), D repeated over the inputs",
        paper="Kang & Yin 2024, arXiv:2409.15371",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [[own(n, m)], [trained(o["k"], m, name="D")]],
        lr=0.01,
        low_rank=True,
    ),
    "gralora": Method(
        title="GraLoRA",
        formula="h = W0 x + R x, R of g x g blocks B_ij A_ij of rank k/g, g: blocks",
        paper="Jung et al. 2025, arXiv:2505.20355",
        options={"k": (Rank, 4), "blocks": (Annotated[int, Field(ge=1, le=64)], 2)},
        layer=_low_rank,
        lr=0.03,
    ),
    "hra": Method(
        title="HRA",
        formula="W' = W0 H_1 H_2 ... H_k, H_i = I - 2 u_i u_iᵀ / ‖u_i‖², u_i the columns of U",
        paper="Yuan et al. 2024, arXiv:2405.17484",
        options={"k": (Annotated[int, Field(ge=2, le=4096, multiple_of=2)], 4)},
        layer=lambda n, m, o: [[trained(n, o["k"], name="U"), own(n, m)]],
        remakes=True,
        lr=0.1,
        exemptions=(
            Exemption("birth", "a reflection undoes the one before it only up to rounding", relative=1e-6),
            MULTIPLIES,
        ),
    ),
    "fourierft": Method(
        title="FourierFT",
        formula="W' = W0 + α Re(F⁻¹(E c)), c the entries of the spectrum at random places E",
        paper="Gao et al. 2024, arXiv:2405.03003",
        options={"frequencies": (Annotated[int, Field(ge=1, le=1_000_000)], 1000), "alpha": (Positive, 150.0)},
        layer=lambda n, m, o: [[own(n, m)], [trained(min(o["frequencies"], n * m), name="c")]],
        remakes=True,
        lr=0.03,
    ),
    "delora": Method(
        title="DeLoRA",
        formula="W' = W0 + λ/k ‖W0‖ B Ξ A, Ξ_i = 1 / (‖b_i‖ ‖a_i‖), λ: at first strength",
        paper="Bini et al. 2025, arXiv:2503.18225",
        options={"k": (Rank, 4), "strength": (Positive, 15.0)},
        layer=lambda n, m, o: [
            [own(n, m)],
            [trained(n, o["k"], name="A"), trained(1, name="λ"), trained(o["k"], m, name="B")],
        ],
        lr=0.03,
        low_rank=True,
    ),
    "shira": Method(
        title="SHiRA",
        formula="W' = W0 + S, S zero but at k (n + m) random places",
        paper="Bhardwaj et al. 2024, arXiv:2406.13175",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [[own(n, m)], [trained(min(o["k"] * (n + m), n * m), name="S")]],
        remakes=True,
        lr=0.03,
    ),
    "boft": Method(
        title="BOFT",
        formula="W' = diag(s) W0 B_1ᵀ B_2ᵀ ..., B_i a butterfly's sparse rotations",
        paper="Liu et al. 2023, arXiv:2311.06243",
        options={
            "block": (Annotated[int, Field(ge=2, le=256, multiple_of=2)], 4),
            "factors": (Annotated[int, Field(ge=1, le=16)], 2),
        },
        layer=lambda n, m, o: [
            [trained(o["factors"] * n * (o["block"] - 1) // 2, name="B"), own(n, m), trained(m, name="s")]
        ],
        remakes=True,
        lr=0.03,
        exemptions=(MULTIPLIES,),
    ),
    "randlora": Method(
        title="RandLoRA",
        formula="W' = W0 + α/k Σ_j B_j Λ_j A Γ_j, B_j and A random, shared, frozen; α/k: scale",
        paper="Albert et al. 2025, arXiv:2502.00987",
        options={"k": (Rank, 4), "scale": (Positive, 20.0)},
        layer=_random_bases,
        lr=0.001,
        shared=True,
        remakes=True,
    ),
}
