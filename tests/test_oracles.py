"""Every method against something that was not written with it: formulas, identities, NumPy, PEFT, loralib, adapters.

PEFT and loralib are in the `test` extra; without them their tests are skipped. `adapters` cannot be installed beside
PEFT: oracles/adapter.safetensors holds what it computes, and oracles/make_adapter_fixture.py made it.
"""

# ruff: noqa: N806 -- A, B and W are the papers' names
from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from contract import CASES, CLASSIFIER, SIZES, Case, labels, logits, stir
from oracles.dense import check_formula
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench import methods
from lorabench.data.ways import import_datasets
from lorabench.methods.adapter import Adapter
from lorabench.methods.factors import cayley
from lorabench.methods.lora import LoRALayer
from lorabench.model import seeded

LAYERS = ("fc1", "fc2", "fc3")
STEPS = 30


def tuned(name: str, **options: Any) -> Any:
    """The trained classifier in float64 with the method applied, off its birth values."""
    return stir(CLASSIFIER.tuned(Case(name, 0, options), torch.float64))


def images(n: int = 100) -> Tensor:
    return CLASSIFIER.images(n, torch.float64)


def loss(model: nn.Module) -> Tensor:
    return F.cross_entropy(model(images()), labels().flip(0))


def off(got: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    assert got.shape == expected.shape
    return ((got - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("case", [*CASES, *SIZES], ids=str)
def test_a_layer_computes_its_papers_formula(case: Case) -> None:
    check_formula(case)


class TestIdentities:
    """Algebra that holds between methods, and between a method and the plain model."""

    def test_lora_gradients_are_projections_of_the_full_gradient(self) -> None:
        model = tuned("lora")
        plain: Any = methods.merge(model)
        loss(model).backward()
        loss(plain).backward()
        for name in LAYERS:
            layer, G = getattr(model, name), getattr(plain, name).weight.grad
            assert off(layer.At.grad.T, G.T @ layer.B.T) <= 1e-12
            assert off(layer.B.grad, layer.A.T @ G.T) <= 1e-12

    def test_at_birth_loras_a_has_no_gradient_and_b_has(self) -> None:
        model: Any = CLASSIFIER.tuned(Case("lora", 0), torch.float64)
        loss(model).backward()
        assert all(getattr(model, name).At.grad.count_nonzero() == 0 for name in LAYERS)
        assert all(getattr(model, name).B.grad.count_nonzero() > 0 for name in LAYERS)

    @pytest.mark.parametrize("variant", ["additive", "border"])
    def test_a_prompt_is_the_first_bias(self, variant: str) -> None:
        model, base = tuned("prompt", variant=variant), CLASSIFIER.base(torch.float64)
        plain: Any = methods.merge(model)
        assert all(torch.equal(t, base.state_dict()[k]) for k, t in plain.state_dict().items() if k != "fc1.bias")
        loss(model).backward()
        loss(plain).backward()
        W = plain.fc1.weight.detach()[:, model.fc1.places]
        assert off(model.fc1.p.grad, W.T @ plain.fc1.bias.grad) <= 1e-12

    def test_prompts_reach_every_first_bias_and_deep_prompts_every_bias(self) -> None:
        base: Any = CLASSIFIER.base(torch.float64)
        border = tuned("prompt", variant="border").fc1.places
        assert len(border) == 384
        assert torch.linalg.matrix_rank(base.fc1.weight[:, border]) == 256
        bitfit, deep = tuned("bitfit"), tuned("prompt", variant="deep")
        for name in LAYERS:
            moved = getattr(bitfit, name).bias - getattr(base, name).bias
            W = getattr(base, name).weight.detach().numpy()
            p = cast("npt.NDArray[np.float64]", np.linalg.lstsq(W, moved.detach().numpy())[0])
            getattr(deep, name).p.data = torch.from_numpy(p)
        assert off(logits(deep, images()), logits(bitfit, images())) <= 1e-12

    def test_scaling_outputs_after_relu_is_scaling_the_next_inputs(self) -> None:
        model = tuned("ia3", place="in")
        model.fc2.l.data.abs_()
        hidden = torch.relu(model.fc1(images())).detach()
        expected = model.fc2(hidden)
        assert off(model.fc2.inner(model.fc2.l * hidden), expected) <= 1e-15
        scaled = tuned("ia3", place="out")
        scaled.fc1.l.data = model.fc2.l.data
        scaled.fc1.inner.load_state_dict(methods.merge(model).get_submodule("fc1").state_dict())
        assert off(model.fc2.inner(torch.relu(scaled.fc1(images()))), expected) <= 1e-12

    @pytest.mark.parametrize(("name", "limit"), [("lora", 4), ("dora", 256), ("adalora", 4), ("miss", 4), ("loha", 16)])
    def test_the_rank_of_an_update(self, name: str, limit: int) -> None:
        before, after = (
            m.get_parameter("fc1.weight") for m in (CLASSIFIER.base(torch.float64), methods.merge(tuned(name)))
        )
        assert torch.linalg.matrix_rank(after - before, rtol=1e-10) == limit

    def test_lora_of_full_rank_reaches_any_update(self) -> None:
        with seeded(0):
            layer = LoRALayer(nn.Linear(12, 7).double(), k=7)
            wanted = torch.randn(7, 12).double()
        U, S, Vt = (torch.from_numpy(part) for part in np.linalg.svd(wanted.numpy(), full_matrices=False))
        layer.At.data, layer.B.data = (Vt.T * S).T, U.T
        assert off(layer.merged().weight - layer.inner.weight, wanted) <= 1e-13

    def test_rslora_is_lora_with_another_alpha(self) -> None:
        rs, lora = tuned("rslora", k=9, alpha=2.5), tuned("lora", k=9, init="kaiming", alpha=2.5 * 3)
        lora.load_state_dict(rs.state_dict())
        assert off(logits(rs, images()), logits(lora, images())) <= 1e-13

    @pytest.mark.parametrize(("p", "q"), [(4.0, 0.5), (0.25, 8.0)])
    def test_scale_initial_a_and_learning_rates_trade_off_exactly(self, p: float, q: float) -> None:
        """(s, A0, η_A, η_B) and (s/(pq), p·A0, p·η_A, q·η_B) train alike: Adam does not see a gradient's size."""
        models: list[Any] = []
        for p_, q_ in ((1.0, 1.0), (p, q)):
            model: Any = CLASSIFIER.tuned(Case("lora", 0), torch.float64)
            groups: list[dict[str, Any]] = []
            for name in LAYERS:
                layer = getattr(model, name)
                layer.scale, layer.At.data = 1 / (p_ * q_), p_ * layer.At.data
                groups += [{"params": [layer.At], "lr": p_ * 1e-3}, {"params": [layer.B], "lr": q_ * 1e-3}]
            descend(model, torch.optim.Adam(groups, eps=1e-300))
            models.append(methods.merge(model))
        one, other = (model.state_dict() for model in models)
        assert all(torch.equal(t, other[name]) for name, t in one.items())


class TestStructure:
    def test_the_rows_of_dora_are_as_long_as_its_magnitudes(self) -> None:
        model = tuned("dora")
        plain: Any = methods.merge(model)
        for name in LAYERS:
            assert off(getattr(plain, name).weight.norm(dim=1), getattr(model, name).g.abs()) <= 1e-13

    def test_oft_turns_and_does_nothing_else(self) -> None:
        model, base = tuned("oft"), CLASSIFIER.base(torch.float64)
        R = model.fc1.rotation()
        assert (R @ R.mT - torch.eye(4).double()).abs().max() <= 1e-13
        assert torch.linalg.det(R).min() > 0.99
        turned = methods.merge(model).get_parameter("fc1.weight")
        W0 = base.get_parameter("fc1.weight")
        assert off(turned @ turned.T, W0 @ W0.T) <= 1e-13
        assert off(turned, W0) > 0.01

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("side", [4, 256])
    def test_rotations_of_any_size_are_solved_on_any_number_of_threads(self, side: int, threads: int) -> None:
        """On two threads torch 2.13 with MKL fails on a batch of large matrices; on one it gives the same bits."""
        S = 0.1 * torch.randn(3, side * (side - 1) // 2, generator=torch.Generator().manual_seed(0))
        S.requires_grad_()
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            R = cayley(S, side)
            R.square().sum().backward()
        finally:
            torch.set_num_threads(before)
        assert S.grad is not None
        assert (R @ R.mT - torch.eye(side)).abs().max() < 1e-5
        assert (R - torch.eye(side)).abs().max() > 0.1

    @pytest.mark.parametrize("k", [1, 4, 10])
    def test_pissa_freezes_what_the_best_approximation_leaves(self, k: int) -> None:
        model: Any = CLASSIFIER.tuned(Case("pissa", 0, {"k": k}), torch.float64)
        for name in LAYERS:
            layer = getattr(model, name)
            spectrum = np.linalg.svd(layer.inner.weight.detach().numpy(), compute_uv=False)
            left = np.linalg.svd(layer.W_res.numpy(), compute_uv=False)
            missing = len(spectrum) - k
            np.testing.assert_allclose(left[:missing], spectrum[k:], rtol=1e-10)
            np.testing.assert_allclose(left[missing:], 0, atol=1e-13)
            np.testing.assert_allclose((layer.A.T @ layer.A).detach().numpy(), np.diag(spectrum[:k]), atol=1e-12)

    def test_olora_begins_orthonormal(self) -> None:
        model: Any = CLASSIFIER.tuned(Case("olora", 0), torch.float64)
        for name in LAYERS:
            layer = getattr(model, name)
            assert (layer.B @ layer.B.T - torch.eye(4).double()).abs().max() <= 1e-13
            assert (layer.B @ layer.W_res).abs().max() <= 1e-13

    def test_the_order_within_a_batch_does_not_matter(self) -> None:
        x, order = images(), torch.randperm(100, generator=torch.Generator().manual_seed(0))
        for case in CASES:
            model = tuned(case.name, **case.options)
            assert off(logits(model, x[order]), logits(model, x)[order]) <= 1e-12, case


def descend(model: Any, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    """Train on twenty images in turn."""
    x, targets = images(), labels().flip(0)
    for step in range(steps):
        rows = slice(step % 5 * 20, step % 5 * 20 + 20)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), targets[rows]).backward()
        optimizer.step()


def test_full_fine_tuning_is_backpropagation_and_adam() -> None:
    model: Any = CLASSIFIER.tuned(Case("full", 0), torch.float64)
    P = {name: t.detach().numpy().copy() for name, t in model.named_parameters()}
    first = {name: np.zeros_like(t) for name, t in P.items()}
    second = {name: np.zeros_like(t) for name, t in P.items()}
    x, targets = images().numpy(), labels().flip(0).numpy()
    for step in range(STEPS):
        rows = slice(step % 5 * 20, step % 5 * 20 + 20)
        h0 = x[rows]
        h1 = np.maximum(h0 @ P["fc1.weight"].T + P["fc1.bias"], 0)
        h2 = np.maximum(h1 @ P["fc2.weight"].T + P["fc2.bias"], 0)
        z = h2 @ P["fc3.weight"].T + P["fc3.bias"]
        e = np.exp(z - z.max(1, keepdims=True))
        d3 = (e / e.sum(1, keepdims=True) - np.eye(10)[targets[rows]]) / 20
        d2 = d3 @ P["fc3.weight"] * (h2 > 0)
        d1 = d2 @ P["fc2.weight"] * (h1 > 0)
        for name, d, h in (("fc1", d1, h0), ("fc2", d2, h1), ("fc3", d3, h2)):
            for part, g in (("weight", d.T @ h), ("bias", d.sum(0))):
                key = f"{name}.{part}"
                first[key] = 0.9 * first[key] + 0.1 * g
                second[key] = 0.999 * second[key] + 0.001 * g**2
                unbiased = second[key] / (1 - 0.999 ** (step + 1))
                P[key] = P[key] - 1e-3 * first[key] / (1 - 0.9 ** (step + 1)) / (np.sqrt(unbiased) + 1e-8)
    descend(model, torch.optim.Adam(model.parameters(), lr=1e-3))
    for name, t in model.named_parameters():
        assert off(t.detach(), torch.from_numpy(P[name])) <= 1e-12, name


def test_an_adapter_is_that_of_the_adapters_library() -> None:
    file: Any = safe_open(Path(__file__).parent / "oracles" / "adapter.safetensors", framework="pt")
    saved: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    adapter: Any = Adapter(nn.Linear(32, 3).double(), m=8)
    for name in ("D", "d", "U", "u"):
        getattr(adapter, name).data = saved[name]
    h = saved["h"].requires_grad_()
    out = adapter(h)
    assert off(out, saved["out"]) <= 1e-12
    out.backward(saved["cotangent"])
    trained: dict[str, Any] = {"h": h, **dict(adapter.named_parameters())}
    for name, t in trained.items():
        assert off(t.grad, saved[f"grad_{name}"]) <= 1e-12


@dataclass
class Twin:
    """A method of ours and the same of PEFT.

    Attributes:
        case: ours.
        config: of PEFT: the class and its arguments.
        names: of our parameters in a layer, each with PEFT's name of it and the way from our shape to PEFT's.
        shifted: PEFT trains the difference to the base.
        frozen: those of the names that are not trained.
        eps: of Adam; large where a gradient is zero but for rounding, of which 1e-8 would make steps.
        part: how much of our gradient, and so of eps, PEFT's is, which trains both triangles of a skew matrix.
    """

    case: Case
    config: str
    arguments: dict[str, Any]
    names: dict[str, tuple[str, Callable[[Tensor], Tensor]]]
    shifted: bool = False
    frozen: tuple[str, ...] = field(default=())
    eps: float = 1e-8
    part: dict[str, float] = field(default_factory=dict[str, float])
    steps: int = STEPS

    def __str__(self) -> str:
        return str(self.case)


def same(t: Tensor) -> Tensor:
    return t


def flipped(t: Tensor) -> Tensor:
    return t.T


def skew(triangles: Tensor) -> Tensor:
    """PEFT's matrices, of side 4, of which the skew-symmetric part counts; its R is the transpose of ours."""
    full = triangles.new_zeros(*triangles.shape[:-1], 4, 4)
    row, column = torch.triu_indices(4, 4, 1)
    full[..., row, column] = -triangles
    return full - full.mT


def block_diagonals(blocks: Tensor) -> Tensor:
    """(factors, n/b, b, b) to (factors, n, n)."""
    return torch.stack([cast("Tensor", torch.block_diag(*factor)) for factor in blocks])


AB = {"At": ("lora_A.default.weight", same), "B": ("lora_B.default.weight", flipped)}
K4 = {"r": 4, "lora_alpha": 4}

TWINS = [
    Twin(Case("lora", 0), "LoraConfig", K4, AB),
    Twin(Case("lora", 0, {"k": 8, "alpha": 32.0}), "LoraConfig", {"r": 8, "lora_alpha": 32}, AB),
    Twin(Case("rslora", 0, {"alpha": 3.0}), "LoraConfig", {"r": 4, "lora_alpha": 3, "use_rslora": True}, AB),
    Twin(Case("lora-fa", 0), "LoraConfig", K4, AB, frozen=("At",)),
    Twin(
        Case("dora", 0),
        "LoraConfig",
        {**K4, "use_dora": True},
        {**AB, "g": ("lora_magnitude_vector.default.weight", same)},
    ),
    Twin(
        Case("vera", 0, {"k": 16}),
        "VeraConfig",
        {"r": 16, "projection_prng_key": 0, "d_initial": 0.1},
        {
            "b": ("vera_lambda_b.default", same),
            "d": ("vera_lambda_d.default", same),
            "VA": ("vera_A.default", same),
            "VB": ("vera_B.default", same),
        },
        frozen=("VA", "VB"),
    ),
    Twin(
        Case("ia3", 0),
        "IA3Config",
        {"feedforward_modules": []},
        {"l": ("ia3_l.default", lambda t: t[:, None])},
    ),
    Twin(
        Case("ia3", 0, {"place": "in"}),
        "IA3Config",
        {"feedforward_modules": list(LAYERS)},
        {"l": ("ia3_l.default", lambda t: t[None])},
    ),
    Twin(
        Case("adalora", 0),
        "AdaLoraConfig",
        {"init_r": 4, "target_r": 2, "lora_alpha": 4 + 1e-5, "total_step": 100, "tinit": 10, "tfinal": 60},
        {
            "P": ("lora_B.default", same),
            "E": ("lora_E.default", lambda t: t[:, None]),
            "Q": ("lora_A.default", same),
        },
    ),
    Twin(Case("bitfit", 0), "BeftConfig", {}, {"bias": ("beft_bias.default", lambda t: t[None])}, shifted=True),
    Twin(
        Case("full", 0),
        "LNTuningConfig",
        {},
        {part: (f"ln_tuning_layers.default.{part}", same) for part in ("weight", "bias")},
    ),
    Twin(
        Case("loha", 0),
        "LoHaConfig",
        {"r": 4, "alpha": 4},
        {
            "A1": ("hada_w1_b.default", flipped),
            "B1": ("hada_w1_a.default", flipped),
            "A2": ("hada_w2_b.default", flipped),
            "B2": ("hada_w2_a.default", flipped),
        },
    ),
    Twin(
        Case("lokr", 0),
        "LoKrConfig",
        {"r": 4, "alpha": 4},
        {
            "C": ("lokr_w1.default", same),
            "D1": ("lokr_w2_a.default", same),
            "D2": ("lokr_w2_b.default", same),
        },
    ),
    Twin(Case("hira", 0), "HiraConfig", {"r": 4}, {"A": ("hira_A.default", flipped), "B": ("hira_B.default", flipped)}),
    Twin(
        Case("oft", 0),
        "OFTConfig",
        {"oft_block_size": 4, "use_cayley_neumann": False},
        {"S": ("oft_R.default.weight", torch.neg)},  # its R is the transpose of the paper's
    ),
    Twin(Case("miss", 0), "MissConfig", {"r": 4}, {"D": ("miss_block.default", same)}),
    Twin(
        Case("gralora", 0),
        "GraloraConfig",
        {"r": 4, "alpha": 4, "gralora_k": 2},
        {
            "A": ("gralora_A.default", lambda t: t.flatten(-2)),
            "B": ("gralora_B.default", lambda t: t.transpose(0, 1).flatten(1, 2)),
        },
    ),
    Twin(
        Case("hra", 0),
        "HRAConfig",
        {"r": 4},
        {"Ut": ("hra_u.default", flipped)},
        steps=5,  # PEFT multiplies reflections of 784 inputs as dense matrices
    ),
    Twin(
        Case("fourierft", 0),
        "FourierFTConfig",
        {"n_frequency": 1000, "init_weights": True},
        {"c": ("fourierft_spectrum.default", same), "E": ("indices.default", same)},
        frozen=("E",),
        eps=1e-3,  # the logits' gradients add up to zero, and so has fc3's F none where its row is 0
    ),
    Twin(
        Case("delora", 0),
        "DeloraConfig",
        {"r": 4},
        {
            "A": ("delora_A.default", flipped),
            "B": ("delora_B.default", flipped),
            "strength": ("delora_lambda.default", same),
            "norms": ("delora_w_norm.default", same),
        },
        frozen=("norms",),
    ),
    Twin(
        Case("shira", 0),
        "ShiraConfig",
        {"r": 4},
        {"S": ("shira_weight.default", same), "mask": ("shira_indices.default", same)},
        frozen=("mask",),
    ),
    *(
        Twin(
            Case("boft", 0, {"factors": factors}),
            "BOFTConfig",
            {"boft_block_size": 4, "boft_n_butterfly_factor": factors},
            {"S": ("boft_R.default", skew), "s": ("boft_s.default", lambda t: t[:, None])},
            part={"S": 0.5},
            steps=5,  # PEFT multiplies permutations of 784 inputs as dense matrices
        )
        for factors in (1, 3)
    ),
    Twin(
        Case("randlora", 0),
        "RandLoraConfig",
        {"r": 4, "randlora_alpha": 80, "projection_prng_key": 0},
        {
            "Lambda": ("randlora_lambda.default", same),
            "Gamma": ("randlora_gamma.default", same),
            "A": ("randlora_A.default", lambda t: t[:, None]),
            "B": ("randlora_B.default", lambda t: t.reshape(len(t), -1, 4)),
        },
        frozen=("A", "B"),
    ),
]


@pytest.fixture(scope="session")
def peft() -> Any:
    import_datasets()  # PEFT imports torchvision, which needs our help where its compiled library cannot load
    return import_module("peft")


def theirs_of(peft: Any, config: str, arguments: dict[str, Any], dtype: torch.dtype = torch.float64) -> Any:
    """The trained classifier as a PEFT model."""
    made = getattr(peft, config)(target_modules=list(LAYERS), **arguments)
    return peft.get_peft_model(CLASSIFIER.base(), made).to(dtype)


class TestPEFT:
    """PEFT 0.21.2, in float64 and from equal, random states."""

    @pytest.mark.filterwarnings("ignore:Sparse invariant checks")
    @pytest.mark.parametrize("twin", TWINS, ids=str)
    def test_forward_gradients_and_training(self, peft: Any, twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
        if twin.case.name == "boft":  # its fast path, without the CUDA that it is written in
            layer = import_module("peft.tuners.boft.layer")
            monkeypatch.setattr(layer, "get_fbd_cuda", lambda: True)
            monkeypatch.setattr(layer.FastBlockDiag, "apply", block_diagonals)
        if twin.case.name == "fourierft":  # which PEFT computes in float32 whatever it is given
            monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
            monkeypatch.setattr(torch, "zeros", partial(torch.zeros, dtype=torch.float64))
        ours: Any = tuned(twin.case.name, **twin.case.options)
        theirs = theirs_of(peft, twin.config, twin.arguments)
        base: Any = CLASSIFIER.base(torch.float64)
        pairs: list[tuple[Tensor, Tensor, Callable[[Tensor], Tensor], Any]] = []
        parts: list[float] = []
        for layer in LAYERS:
            for own, (other, reshape) in twin.names.items():
                mine = getattr(getattr(ours, layer), own)
                found = find(theirs.get_submodule(f"base_model.model.{layer}"), other)
                origin = getattr(getattr(base, layer), own) if twin.shifted else 0
                found.data.copy_(reshape((mine - origin).detach()))
                if own in twin.frozen:
                    found.requires_grad_(False)
                else:
                    pairs.append((mine, found, reshape, origin))
                    parts.append(twin.part.get(own, 1.0))
        assert off(ours(images()), theirs(images())) <= 1e-12
        loss(ours).backward()
        loss(theirs).backward()
        for (mine, found, reshape, _), part in zip(pairs, parts, strict=True):
            assert mine.grad is not None
            assert found.grad is not None
            assert off(part * reshape(mine.grad), found.grad) <= 1e-12
        descend(ours, torch.optim.Adam([mine for mine, *_ in pairs], lr=1e-3, eps=twin.eps), twin.steps)
        groups = [
            {"params": [found], "eps": part * twin.eps} for (_, found, *_), part in zip(pairs, parts, strict=True)
        ]
        descend(theirs, torch.optim.Adam(groups, lr=1e-3), twin.steps)
        # Adam divides a rounding error by gradients that are nearly zero; how far that goes depends on the processor.
        for mine, found, reshape, origin in pairs:
            assert off(reshape(mine.detach() - origin), found.detach()) <= 1e-10
        assert off(ours(images()), theirs(images())) <= 1e-10

    @pytest.mark.parametrize("name", ["pissa", "olora"])
    def test_the_same_principal_part(self, peft: Any, name: str) -> None:
        """In float32, all that PEFT takes here, near singular values that lie close together. Singular vectors have no
        sign, so products are compared."""
        ours: Any = CLASSIFIER.tuned(Case(name, 0))
        theirs = theirs_of(peft, "LoraConfig", {**K4, "init_lora_weights": name}, torch.float32)
        for layer in LAYERS:
            mine, found = getattr(ours, layer), theirs.get_submodule(f"base_model.model.{layer}")
            product = found.lora_B["default"].weight @ found.lora_A["default"].weight
            assert off((mine.A @ mine.B).T, product) <= 1e-4
            assert off(mine.W_res, found.base_layer.weight) <= 1e-4

    def test_the_same_orthogonal_start(self, peft: Any) -> None:
        """PEFT draws Q, A and B one after the other, as here, and B transposed."""
        ours: Any = CLASSIFIER.tuned(Case("lora", 0, {"init": "orthogonal"}), seed=5)
        theirs = theirs_of(peft, "LoraConfig", {**K4, "init_lora_weights": "orthogonal"}, torch.float32)
        with seeded(5):
            for layer in LAYERS:
                theirs.get_submodule(f"base_model.model.{layer}").orthogonal_init("default")
        for layer in LAYERS:
            mine, found = getattr(ours, layer), theirs.get_submodule(f"base_model.model.{layer}")
            assert off(mine.At, found.lora_A["default"].weight) <= 1e-6
            assert off(mine.B.T, found.lora_B["default"].weight) <= 1e-6
            assert (mine.A @ mine.B).abs().max() <= 1e-6 * mine.A.abs().max() * mine.B.abs().max()

    def test_lora_plus_has_its_two_learning_rates(self, peft: Any) -> None:
        ours = tuned("lora-plus", ratio=16.0)
        theirs = theirs_of(peft, "LoraConfig", K4)
        for layer in LAYERS:
            mine, found = getattr(ours, layer), theirs.get_submodule(f"base_model.model.{layer}")
            found.lora_A["default"].weight.data.copy_(mine.A.T)
            found.lora_B["default"].weight.data.copy_(mine.B.T)
        make = import_module(f"{peft.__name__}.optimizers").create_loraplus_optimizer
        descend(theirs, make(theirs, torch.optim.Adam, lr=1e-4, loraplus_lr_ratio=16.0))
        descend(ours, torch.optim.Adam(methods.parameter_groups(ours, 1e-4)))
        assert off(ours(images()), theirs(images())) <= 1e-10


def find(layer: Any, path: str) -> Any:
    """A parameter or buffer of a PEFT layer by its dotted name, through dictionaries of any kind."""
    for part in path.split("."):
        layer = layer[part] if part == "default" else getattr(layer, part)
    return layer


def test_lora_is_that_of_loralib() -> None:
    loralib: Any = import_module("loralib")
    ours: Any = tuned("lora", k=4, alpha=6.0)
    theirs: Any = CLASSIFIER.base(torch.float64)
    for name in LAYERS:
        mine = getattr(ours, name)
        n, m = mine.inner.in_features, mine.inner.out_features
        layer: Any = loralib.Linear(n, m, r=4, lora_alpha=6, merge_weights=False).double()
        layer.weight.data, layer.bias.data = mine.inner.weight.data, mine.inner.bias.data
        layer.lora_A.data, layer.lora_B.data = mine.A.data.T.clone(), mine.B.data.T.clone()
        theirs.set_submodule(name, layer)
    loralib.mark_only_lora_as_trainable(theirs)
    assert methods.count(theirs).trainable == methods.count(ours).trainable == 6248
    assert off(ours(images()), theirs(images())) <= 1e-12
    for model in (ours, theirs):
        descend(model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3))
    for name in LAYERS:
        mine, found = getattr(ours, name), getattr(theirs, name)
        assert off(mine.A.T, found.lora_A) <= 1e-10
        assert off(mine.B.T, found.lora_B) <= 1e-10


@pytest.mark.filterwarnings("ignore::FutureWarning")  # between PEFT and transformers
def test_lora_on_gpt2s_conv1d_is_pefts() -> None:
    """One adapter for both: the same logits, and merged the same weights, of the shape that Conv1D keeps them in."""
    import_datasets()
    peft, transformers = import_module("peft"), import_module("transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=40, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    with seeded(0):
        base = transformers.GPT2LMHeadModel(config).double().eval()
        tokens = torch.randint(0, 40, (2, 8))
    theirs = peft.get_peft_model(
        deepcopy(base), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"], fan_in_fan_out=True)
    ).eval()
    methods.apply(base, "lora", targets=["*.c_attn"], k=4, alpha=8.0)
    ours, other = base.transformer.h[0].attn.c_attn, theirs.base_model.model.transformer.h[0].attn.c_attn
    with torch.no_grad():
        for parameter in (ours.At, ours.B):
            parameter.copy_(torch.randn_like(parameter))
        other.lora_A["default"].weight.copy_(ours.At)
        other.lora_B["default"].weight.copy_(ours.B.T)
    assert off(base(tokens).logits, theirs(tokens).logits) <= 1e-13
    merged: Any = methods.merge(base)
    weight = merged.transformer.h[0].attn.c_attn.weight
    assert off(weight, theirs.merge_and_unload().transformer.h[0].attn.c_attn.weight) <= 1e-13
    assert off(ours.weight, weight) == 0
    assert weight.shape == (16, 48)


def wide(seed: int = 0) -> nn.Sequential:
    """Ids (n, 36) to images (n, 2, 6, 6) to classes (n, 10), in float64."""
    with seeded(seed):
        image = nn.Unflatten(1, (2, 6, 6))
        model = nn.Sequential(
            nn.Embedding(9, 2, padding_idx=3), nn.Flatten(), image, nn.Conv2d(2, 8, 3, 2, 1), nn.Conv2d(8, 6, 1)
        )
        return nn.Sequential(*model, nn.Flatten(), nn.Linear(54, 10)).double()


IDS = torch.randint(9, (100, 36), generator=torch.Generator().manual_seed(0))


def adam(model: Any) -> None:
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        F.cross_entropy(model(IDS), labels()).backward()
        optimizer.step()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # between PEFT and transformers
def test_lora_on_embeddings_and_convolutions_is_pefts(peft: Any) -> None:
    """With dropout and ranks of their own, from birth through 20 steps, and merged; both begin an embedding with A = 0
    and a drawn B."""
    ours, names = wide(), ["0", "3", "4", "6"]
    targets: dict[str, dict[str, Any]] = {"0": {"dropout": 0.0}, "3": {"k": 5}, "[46]": {}}
    with seeded(1):
        methods.apply(ours, "lora", targets=targets, k=3, alpha=6.0, init="kaiming", dropout=0.3)
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=names, rank_pattern={"3": 5}, lora_dropout=0.3)
    theirs = peft.get_peft_model(wide(), config).double()
    assert methods.count(ours).trainable == methods.count(theirs).trainable
    for name in names:
        mine, other = cast("Any", ours.get_submodule(name)), theirs.base_model.model.get_submodule(name)
        embedding = name == "0"
        A, B = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
        factors = [find(other, f"{factor}.default" + ".weight" * (not embedding)) for factor in (A, B)]
        assert [not factor.any() for factor in factors] == [not mine.At.any(), not mine.B.any()]
        for factor, value in zip(factors, (mine.At, mine.B.t()), strict=True):
            factor.data.copy_(value.detach().reshape(factor.shape))
    for model in (ours, theirs):
        with seeded(2):
            adam(model)
        model.eval()
    assert not cast("Any", ours[0]).A[3].any()  # the padding
    assert off(ours(IDS), theirs(IDS)) <= 1e-12
    for name, weight in methods.merge(ours).state_dict().items():
        assert off(weight, theirs.merge_and_unload().state_dict()[name]) <= 1e-12


def test_lora_on_embeddings_and_convolutions_is_that_of_loralib() -> None:
    loralib: Any = import_module("loralib")
    ours, theirs = wide(), wide()
    methods.apply(ours, "lora", targets=["0", "4"], k=3, alpha=6.0)
    scale = {"r": 3, "lora_alpha": 6, "merge_weights": False}
    layers = {"0": loralib.Embedding(9, 2, padding_idx=3, **scale), "4": loralib.Conv2d(8, 6, 1, **scale)}
    for name, layer in layers.items():
        layer.double().load_state_dict(
            {f"conv.{key}" if name == "4" else key: t for key, t in theirs.get_submodule(name).state_dict().items()},
            strict=False,
        )
        mine = cast("Any", ours.get_submodule(name))
        layer.lora_A.data, layer.lora_B.data = mine.At.data.clone(), mine.B.data.t().clone()
        theirs.set_submodule(name, layer)
    loralib.mark_only_lora_as_trainable(theirs)
    for model in (ours, theirs):
        adam(model)
    assert off(ours(IDS), theirs(IDS)) <= 1e-12


@pytest.mark.parametrize(
    "how",
    [
        {"groups": 4, "dilation": 2, "padding": 2, "stride": 2},
        {"groups": 2, "padding": "same", "padding_mode": "reflect"},
        {"kernel_size": (1, 3), "padding": (0, 1), "padding_mode": "circular", "bias": False},
    ],
    ids=str,
)
def test_lora_on_a_convolution_is_that_on_its_weight(how: dict[str, Any]) -> None:
    """PEFT forgets dilation and padding_mode, and cannot merge groups: the oracle is the convolution by W0 + (AB)ᵀ."""
    with seeded(0):
        conv: Any = nn.Conv2d(4, 8, **cast("Any", {"kernel_size": 3, **how})).double()
        model, x = nn.Sequential(conv, nn.ReLU()), torch.randn(2, 4, 9, 9).double()
        methods.apply(model, "lora", targets=["0"], k=3, alpha=6.0)
        layer = cast("Any", stir(model))[0]
    W1 = conv.weight + 2 * (layer.A @ layer.B).t().view_as(conv.weight)
    expected = conv._conv_forward(x, W1, conv.bias).relu()
    assert off(model(x), expected) <= 1e-12
    for mine, other in zip(
        *(torch.autograd.grad(y.square().sum(), (layer.At, layer.B)) for y in (model(x), expected)), strict=True
    ):
        assert off(mine, other) <= 1e-12
    assert off(methods.merge(model)(x), expected) <= 1e-12
    assert (layer.stride, layer.padding, layer.groups, layer.in_channels) == (conv.stride, conv.padding, conv.groups, 4)
