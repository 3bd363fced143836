"""The methods that lorabench knows, each an `entry.Method`: names, papers, options, what they put into a layer.

No torch in here.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from lorabench.methods.entry import Exemption, Layer, Method, Options, frozen, own, since, trained

Rank = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]

MULTIPLIES = Exemption("mix", "it multiplies a layer's weight, and two such changes multiply instead of adding up")


def _weight(n: int, m: int, o: Options) -> Layer:
    """W and b themselves."""
    del o
    return [[trained("W", n, m), trained("b", m)]]


def _low_rank(n: int, m: int, o: Options) -> Layer:
    """A (n, k) and B (k, m) beside W."""
    return [[own(n, m)], [trained("A", n, o["k"]), trained("B", o["k"], m)]]


def _residual(n: int, m: int, o: Options) -> Layer:
    """The same beside what they leave of W."""
    return [[own(n, m, "W_res")], *_low_rank(n, m, o)[1:]]


def _adapter(n: int, m: int, o: Options) -> Layer:
    """D and U with their biases, before W."""
    w = o["bottleneck"]
    down, up = [trained("D", n, w), trained("d", w)], [trained("U", w, n), trained("u", n)]
    return [[*down, *up, own(n, m)]]


def _prompt(n: int, m: int, o: Options) -> Layer:
    """One value per input; of an image of s x s, only the frame of 4 pixels: 4·4·(s − 4)."""
    return [[trained("v", 16 * (math.isqrt(n) - 4) if o["variant"] == "border" else n), own(n, m)]]


def square(n: int) -> tuple[int, int]:
    """n as a product of two whole numbers as near to each other as can be, the smaller first."""
    small = next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)
    return small, n // small


def _kronecker(n: int, m: int, o: Options) -> Layer:
    """C (m1, n1), and B A (m2, n2) of rank k."""
    (n1, n2), (m1, m2) = square(n), square(m)
    return [[own(n, m)], [trained("A", n2, o["k"]), trained("B", o["k"], m2), trained("C", n1, m1)]]


def _random_bases(n: int, m: int, o: Options) -> Layer:
    """A (k, p) and B (q, kN) of full rank N k ≥ p, p and q the shorter and the longer side; Λ (k, N) and Γ (N, p)."""
    (p, q), k = sorted((n, m)), o["k"]
    N = -(-p // k)
    return [
        [own(n, m)],
        [trained("Γ", N * p), frozen("A", p, k), trained("Λ", k * N), frozen("B", k * N, q)],
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
        formula="W0 (x + U relu(D x + d) + u), D and U of width w: bottleneck",
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
        layer=lambda n, m, o: [[own(n, m), trained("b", m)]],
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
        layer=lambda n, m, o: [[own(n, m)], [frozen("A", n, o["k"]), trained("B", o["k"], m)]],
        lr=0.1,
        lr_of=[({"k": 16}, 0.03)],
        low_rank=True,
    ),
    "dora": Method(
        title="DoRA",
        formula="W' = g (W0 + B A) / ‖W0 + B A‖, row by row; g, m in the paper: magnitudes",
        paper="Liu et al. 2024, arXiv:2402.09353",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [*_low_rank(n, m, o), [trained("g", m)]],
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
                frozen("A", n, o["k"]),
                trained("Λ_d", o["k"]),
                frozen("B", o["k"], m),
                trained("Λ_b", m),
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
        layer=lambda n, m, o: [[own(n, m), trained("l", m)] if o["place"] == "out" else [trained("l", n), own(n, m)]],
        lr=0.3,
        lr_of=[({"place": "in"}, 0.1)],
        exemptions=(MULTIPLIES,),
    ),
    "adalora": Method(
        title="AdaLoRA",
        formula="W' = W0 + P Λ Q, the least important of Λ set to 0 until a share of them is left: keep",
        paper="Zhang et al. 2023, arXiv:2303.10512",
        options={
            "k": (Rank, 4),
            "keep": (Annotated[float, Field(gt=0, le=1)], 2 / 3),
            "gamma": (Annotated[float, Field(ge=0, allow_inf_nan=False)], 0.1),
        },
        layer=lambda n, m, o: [
            [own(n, m)],
            [trained("Q", n, o["k"]), trained("Λ", o["k"]), trained("P", o["k"], m)],
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
            *([trained(f"A{i}", n, o["k"]), trained(f"B{i}", o["k"], m)] for i in (1, 2)),
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
        formula="h = W0 Rᵀ x, R = diag(R_1, R_2, ...), R_i = (I + Q_i)(I - Q_i)⁻¹, Q_i skew-symmetric, b x b, b: block",
        paper="Qiu et al. 2023, arXiv:2306.07280",
        options={"block": (Annotated[int, Field(ge=2, le=256)], 4)},
        layer=lambda n, m, o: [[trained("Q", n * (o["block"] - 1) // 2), own(n, m)]],
        remakes=True,
        lr=0.01,
        exemptions=(MULTIPLIES,),
    ),
    "miss": Method(
        title="MiSS",
        formula="W' = W0 + expand(D), D repeated over the inputs",
        paper="Kang & Yin 2024, arXiv:2409.15371",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [[own(n, m)], [trained("D", o["k"], m)]],
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
        layer=lambda n, m, o: [[trained("U", n, o["k"]), own(n, m)]],
        remakes=True,
        lr=0.1,
        exemptions=(
            Exemption("birth", "a reflection undoes the one before it only up to rounding", relative=1e-6),
            MULTIPLIES,
        ),
    ),
    "fourierft": Method(
        title="FourierFT",
        formula="W' = W0 + α Re(F⁻¹(E c)), c the f entries of the spectrum at random places E, f: frequencies",
        paper="Gao et al. 2024, arXiv:2405.03003",
        options={"frequencies": (Annotated[int, Field(ge=1, le=1_000_000)], 1000), "alpha": (Positive, 150.0)},
        layer=lambda n, m, o: [[own(n, m)], [trained("c", min(o["frequencies"], n * m))]],
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
            [trained("A", n, o["k"]), trained("λ", 1), trained("B", o["k"], m)],
        ],
        lr=0.03,
        low_rank=True,
    ),
    "shira": Method(
        title="SHiRA",
        formula="W' = W0 + S, S zero but at k (n + m) random places",
        paper="Bhardwaj et al. 2024, arXiv:2406.13175",
        options={"k": (Rank, 4)},
        layer=lambda n, m, o: [[own(n, m)], [trained("S", min(o["k"] * (n + m), n * m))]],
        remakes=True,
        lr=0.03,
    ),
    "boft": Method(
        title="BOFT",
        formula="W' = diag(s) W0 B_1ᵀ ... B_Mᵀ, M: factors, B_i a butterfly's rotations of b x b, b: block",
        paper="Liu et al. 2023, arXiv:2311.06243",
        options={
            "block": (Annotated[int, Field(ge=2, le=256, multiple_of=2)], 4),
            "factors": (Annotated[int, Field(ge=1, le=16)], 2),
        },
        layer=lambda n, m, o: [[trained("B", o["factors"] * n * (o["block"] - 1) // 2), own(n, m), trained("s", m)]],
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
