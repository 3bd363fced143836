"""Training, written a second time: what `fit` must do step by step, with every method, in float64.

Adam, its two averages, the learning rate's triangle, the permutations, LoRA+'s two rates, and AdaLoRA's penalty,
importance and budget stand here in plain formulas. A method's forward is its own (test_oracles holds it to its paper).
"""

# ruff: noqa: N806 -- P, E and Q are the paper's names
from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

import pytest
import torch
from contract import CLASSIFIER, Case, labels
from test_oracles import LAYERS, theirs_of
from test_oracles import peft as peft  # a fixture
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench import frozen, methods, train
from lorabench.methods.adalora import AdaLoRALayer, Allocator

RECIPE = train.Recipe(epochs=4, batch_size=10, lr=0.02, warmup=0.3)
N = 107
"""Images: ten batches, and seven images that no step of the epoch sees."""
LR_B = 16.0
"""How much faster B learns than A in LoRA+."""
PRUNED = Case("adalora", 0, {"k": 6, "keep": 0.5, "gamma": 0.3})
SETTINGS = [*(Case(name, 0) for name in methods.METHODS if name != "adalora"), PRUNED]


@dataclass
class Importance:
    """AdaLoRA's smoothed sensitivity and uncertainty of one parameter (equations 9 and 10, β1 = β2 = 0.85)."""

    mean: Any = 0.0
    spread: Any = 0.0

    def of(self, w: Tensor) -> Tensor:
        """The product of both (equation 11), after one more step that left its gradient in `w`."""
        assert w.grad is not None
        sensitivity = (w.detach() * w.grad).abs()
        self.mean = 0.85 * self.mean + 0.15 * sensitivity
        self.spread = 0.85 * self.spread + 0.15 * (sensitivity - self.mean).abs()
        return self.mean * self.spread


@dataclass
class Pruning:
    """AdaLoRA's triplets, over all layers: 6 in each at birth, half of them at the end."""

    layers: list[Any]
    seen: dict[tuple[int, str], Importance] = field(default_factory=dict[tuple[int, str], Importance])
    budgets: list[int] = field(default_factory=list[int])
    left: list[tuple[int, int]] | None = None
    """Layers and places of the pruned, once half are."""

    def penalty(self) -> Any:
        """Equation 4, with γ = 0.3."""
        eye = torch.eye(6).double()
        return sum(
            0.3 * ((layer.P.T @ layer.P - eye) ** 2).sum() + 0.3 * ((layer.Q @ layer.Q.T - eye) ** 2).sum()
            for layer in self.layers
        )

    def prune(self, step: int, steps: int) -> None:
        """Equation 12: all until a tenth of the steps is done, a cubic fall, from four tenths on the same half."""
        if self.left is not None:
            for i, j in self.left:
                self.layers[i].E.data[j] = 0
            return
        scores: list[tuple[float, int, int]] = []
        for i, layer in enumerate(self.layers):
            P, E, Q = (self.seen.setdefault((i, part), Importance()).of(getattr(layer, part)) for part in "PEQ")
            for j in range(6):
                score = E[j] + P[:, j].sum() / len(P) + Q[j].sum() / Q.shape[1]
                scores.append((score.item(), i, j))
        total = len(scores)
        target = total // 2
        share = (step + 1) / steps
        if share <= 0.1:
            budget = total
        elif share >= 0.4:
            budget = target
        else:
            budget = target + round((total - target) * ((0.4 - share) / 0.3) ** 3)
        self.budgets.append(budget)
        out = [(i, j) for _, i, j in sorted(scores)[: total - budget]]
        for i, j in out:
            self.layers[i].E.data[j] = 0
        self.left = out if share >= 0.4 else None


def reference(model: Any, x: Tensor, y: Tensor, recipe: train.Recipe, seed: int) -> list[tuple[float, float, float]]:
    """Train as `fit` must; mean loss, share of right answers and last learning rate of each epoch."""
    pruning = Pruning(adalora_layers(model))
    draw = torch.Generator().manual_seed(seed)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    plus = any("LoRAPlus" in type(module).__name__ for module in model.modules())
    first = {name: torch.zeros_like(p) for name, p in trained.items()}
    second = {name: torch.zeros_like(p) for name, p in trained.items()}
    batches = len(x) // recipe.batch_size
    steps = recipe.epochs * batches
    told: list[tuple[float, float, float]] = []
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(x), generator=draw)
        losses: list[float] = []
        right, rate = 0, 0.0
        for batch in range(batches):
            step = epoch * batches + batch
            rows = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
            done = (step + 0.5) / steps
            rate = recipe.lr * min(done / recipe.warmup, (1 - done) / (1 - recipe.warmup))
            z = model(x[rows])
            loss = -z.log_softmax(1)[range(len(rows)), y[rows]].mean()
            losses.append(loss.item())
            right += int((z.argmax(1) == y[rows]).sum())
            model.zero_grad()
            (loss + pruning.penalty()).backward()
            for name, p in trained.items():
                first[name] = 0.9 * first[name] + 0.1 * p.grad
                second[name] = 0.99 * second[name] + 0.01 * p.grad**2
                mean, square = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.99 ** (step + 1))
                faster = LR_B if plus and name.endswith(".B") else 1.0
                p.data -= faster * rate * mean / (square.sqrt() + 1e-8)
            if pruning.layers:
                pruning.prune(step, steps)
        told.append((sum(losses) / len(losses), right / (batches * recipe.batch_size), rate))
    if pruning.layers:
        assert len(set(pruning.budgets)) > 4, "the budget does not fall step by step"
    return told


def adalora_layers(model: nn.Module) -> list[AdaLoRALayer]:
    return [module for module in model.modules() if isinstance(module, AdaLoRALayer)]


def data() -> tuple[Tensor, Tensor]:
    """Images with other labels than the base learnt: losses and gradients are large."""
    return CLASSIFIER.images(N, torch.float64), (labels(N) + 1) % 10


@pytest.mark.parametrize("case", SETTINGS, ids=str)
def test_fit_is_its_formulas(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "CHUNK", 30)
    x, y = data()
    ours, theirs = (CLASSIFIER.tuned(case, torch.float64) for _ in range(2))
    recipe = RECIPE if case is PRUNED else replace(RECIPE, epochs=2)
    found = train.fit(ours, x, y, recipe, seed=3)
    expected = reference(theirs, x, y, recipe, seed=3)
    # Softmax's gradients sum to 0 over the classes: FourierFT's frequency 0 has none but rounding, which Adam steps by.
    allowed = 1e-8 if case.name == "fourierft" else 1e-10
    for name, p in theirs.named_parameters():
        close(ours.get_parameter(name), p, name, allowed)
    assert [epoch.epoch for epoch in found] == [*range(1, recipe.epochs + 1)]
    assert [epoch.loss for epoch in found] == pytest.approx([loss for loss, _, _ in expected], rel=1e-9)
    assert [epoch.accuracy for epoch in found] == pytest.approx([right for _, right, _ in expected], rel=1e-6)
    assert [epoch.lr for epoch in found] == pytest.approx([rate for _, _, rate in expected], rel=1e-12)
    assert expected[0][0] > 2, "no gradient is large enough for clipping to be seen"


def close(got: Tensor, expected: Tensor, where: object, allowed: float = 1e-10) -> None:
    """Equal up to the rounding of at most forty steps."""
    torch.testing.assert_close(got.detach(), expected.detach(), rtol=0, atol=allowed, msg=lambda m: f"{where}: {m}")


class Mode(nn.Module):
    """Passes on what it gets, and notes whether it was told to train."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.training)
        return x


@pytest.mark.parametrize("reuse", [True, False])
def test_a_model_that_was_just_measured_is_trained_in_training_mode(reuse: bool) -> None:
    mode = Mode()
    model = nn.Sequential(nn.Linear(784, 10), mode).double().eval()
    x, y = data()
    train.fit(model, x, y, train.Recipe(1, 20, 0.01, 0.2), seed=0, reuse=reuse)
    assert len(mode.seen) == 5
    assert all(mode.seen)


def test_adalora_judges_and_prunes_triplets_as_peft_does(peft: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """From equal states, without the penalty, which PEFT leaves to the model."""
    judged: list[Tensor] = []
    importance = AdaLoRALayer.importance

    def listened(layer: AdaLoRALayer) -> Tensor:
        judged.append(importance(layer))
        return judged[-1]

    monkeypatch.setattr(AdaLoRALayer, "importance", listened)
    ours: Any = CLASSIFIER.tuned(Case("adalora", 0, {"keep": 0.5, "gamma": 0.0}), torch.float64)
    arguments = {"init_r": 4, "target_r": 2, "lora_alpha": 4 + 1e-5, "total_step": 40, "tinit": 4, "tfinal": 24}
    theirs = theirs_of(peft, "AdaLoraConfig", arguments)
    judge = import_module("peft.tuners.adalora.layer").RankAllocator(theirs, theirs.peft_config["default"], "default")
    pairs: list[tuple[Tensor, Tensor]] = []
    for name in LAYERS:
        mine, found = getattr(ours, name), theirs.get_submodule(f"base_model.model.{name}")
        for part, other in (("P", found.lora_B), ("E", found.lora_E), ("Q", found.lora_A)):
            other["default"].data.copy_(getattr(mine, part).detach().reshape(other["default"].shape))
            pairs.append((getattr(mine, part), other["default"]))
    allocator = next(module for module in ours.modules() if isinstance(module, Allocator))
    optimizers = [torch.optim.Adam(group, lr=0.01) for group in zip(*pairs, strict=True)]
    x, y = data()
    pruned: set[int] = set()
    for step in range(24):
        rows = slice(step % 5 * 20, step % 5 * 20 + 20)
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        allocator.after_step(step, 40)
        if step < 16:  # 40 - tfinal: from then on neither judges anew
            judge.update_ipt(theirs)
            for name, mine in zip(LAYERS, judged[-3:], strict=True):
                P, E, Q = (judge._element_score(f"base_model.model.{name}.lora_{part}.default") for part in "BEA")
                torch.testing.assert_close(mine, E[:, 0] + P.mean(0) + Q.mean(1), rtol=1e-7, atol=0)
        budget, _ = judge.budget_schedule(step + 1)  # rounded down
        assert 0 <= allocator.budget(step, 40) - budget <= 1
        if allocator.budget(step, 40) < 12:
            judge.mask_to_budget(theirs, allocator.budget(step, 40))
        for mine, found in pairs:
            close(mine.reshape(found.shape), found, step)
        pruned.add(sum(int((layer.E == 0).sum()) for layer in adalora_layers(ours)))
    assert {0, 6} < pruned
    assert len(judged) == 3 * 16
