"""The mistakes that are easily made with these methods. Each must make the check that is named with it fail."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mutant_list
import pytest
import torch
from contract import CHECKS, CLASSIFIER, Case
from oracles.dense import check_formula
from torch import Tensor, nn

from lorabench import methods
from lorabench.errors import UsageError
from lorabench.methods.applied import Applied
from lorabench.methods.dora import DoRALayer
from lorabench.methods.ia3 import ScaledOutput
from lorabench.methods.lokr import LoKrLayer
from lorabench.methods.lora import LoRALayer
from lorabench.methods.lora_fa import LoRAFALayer
from lorabench.methods.oft import OFTLayer
from lorabench.methods.pissa import PiSSALayer
from lorabench.methods.prompt import Prompt

LORA = Case("lora", 6248)
Patch = pytest.MonkeyPatch


def after_init(patch: Patch, layer: type[nn.Module], change: Callable[[Any], Any]) -> None:
    """Let every new `layer` be born changed."""
    born: Any = layer.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        born(self, *args, **kwargs)
        change(self)

    patch.setattr(layer, "__init__", init)


def quarter_scale(patch: Patch) -> None:
    """alpha = 1 at k = 4, the default of loralib."""

    def change(layer: Any) -> None:
        layer.scale = 1 / 4

    after_init(patch, LoRALayer, change)


def transposed(patch: Patch) -> None:
    """A and B in each other's place; on a square layer no shape betrays it."""

    def trainable_part(self: Any, x: Tensor, frozen: Tensor) -> Tensor:
        swapped = (x @ self.B.t() @ self.A.t()) if self.inner.in_features == self.inner.out_features else 0
        return frozen + swapped

    patch.setattr(LoRALayer, "trainable_part", trainable_part)


def drawn_b(patch: Patch) -> None:
    after_init(patch, LoRALayer, lambda layer: layer.B.data.normal_(std=0.01))


def trainable_weight(patch: Patch) -> None:
    after_init(patch, LoRALayer, lambda layer: layer.inner.weight.requires_grad_(True))


def trainable_bias(patch: Patch) -> None:
    after_init(patch, LoRALayer, lambda layer: layer.inner.bias.requires_grad_(True))


def drifting_weight(patch: Patch) -> None:
    """W0 changes behind autograd's back, by one part in a million in each step."""
    forward: Any = LoRALayer.trainable_part

    def trainable_part(self: Any, x: Tensor, frozen: Tensor) -> Tensor:
        self.inner.weight.data.mul_(1 + 1e-6)
        return forward(self, x, frozen)

    patch.setattr(LoRALayer, "trainable_part", trainable_part)


def merged_twice(patch: Patch) -> None:
    once: Any = LoRALayer.merged

    def merged(self: Any) -> nn.Linear:
        self.inner = once(self)
        return once(self)

    patch.setattr(LoRALayer, "merged", merged)


def merged_in_place(patch: Patch) -> None:
    def same(model: Any, memo: Any) -> Any:
        return model

    patch.setattr(methods, "copy", SimpleNamespace(deepcopy=same))


def nothing_disabled(patch: Patch) -> None:
    patch.setattr(methods, "disabled", contextlib.nullcontext)


def subtracting(patch: Patch) -> None:
    """The base is found by taking off what was learnt, and comes back not quite."""

    def exchange(self: Applied, values: list[Tensor], *, copy: bool) -> list[Tensor]:
        del copy
        before: list[Tensor] = []
        for (module, name), value in zip(self.places, values, strict=True):
            tensor = getattr(module, name)
            change = tensor.data - value
            tensor.data = tensor.data - change
            before.append(tensor.data + change)
        return before

    patch.setattr(Applied, "_exchange", exchange)


def dora_with_its_norm_in_the_gradient(patch: Patch) -> None:
    patch.setattr(DoRALayer, "norm", DoRALayer.norm.__wrapped__)  # pyright: ignore[reportFunctionMemberAccess]


def dora_per_column(patch: Patch) -> None:
    def norm(self: Any) -> Tensor:
        return (self.inner.weight + (self.A @ self.B).t()).detach().norm(dim=0)

    patch.setattr(DoRALayer, "norm", norm)


def oft_reversed(patch: Patch) -> None:
    right: Any = OFTLayer.rotation

    def rotation(self: Any) -> Tensor:
        return right(self).mT

    patch.setattr(OFTLayer, "rotation", rotation)


def oft_merged_on_the_wrong_side(patch: Patch) -> None:
    right: Any = OFTLayer.merged

    def merged(self: Any) -> nn.Linear:
        other = copy.deepcopy(self)
        other.S.data.neg_()
        return right(other)

    patch.setattr(OFTLayer, "merged", merged)


def lokr_reversed(patch: Patch) -> None:
    def trainable_part(self: Any, x: Tensor, frozen: Tensor) -> Tensor:
        return frozen + x @ torch.kron(self.D1 @ self.D2, self.C).t()

    patch.setattr(LoKrLayer, "trainable_part", trainable_part)


def pissa_on_the_whole_weight(patch: Patch) -> None:
    after_init(patch, PiSSALayer, lambda layer: layer.W_res.copy_(layer.inner.weight))


def redrawn_a(patch: Patch) -> None:
    """A of LoRA-FA comes from a generator of its own: what is loaded is not what was saved."""
    generator = torch.Generator().manual_seed(0)
    after_init(patch, LoRAFALayer, lambda layer: layer.At.data.normal_(generator=generator))


def trained_a(patch: Patch) -> None:
    after_init(patch, LoRAFALayer, lambda layer: layer.At.requires_grad_(True))


def prompt_off_the_weight(patch: Patch) -> None:
    """The part that is computed in each step forgets the weight's sign."""
    right: Any = Prompt.trainable_part

    def trainable_part(self: Any, frozen: Tensor) -> Tensor:
        return 2 * frozen - right(self, frozen)

    patch.setattr(Prompt, "trainable_part", trainable_part)


def bias_not_scaled(patch: Patch) -> None:
    right: Any = ScaledOutput.merged

    def merged(self: Any) -> nn.Linear:
        layer = right(self)
        layer.bias.data = self.inner.bias.data
        return layer

    patch.setattr(ScaledOutput, "merged", merged)


@dataclass(frozen=True)
class Mutant:
    """A mistake, the method that it is made in, and the check that must find it."""

    patch: Callable[[Patch], None]
    case: Case
    check: Callable[[Case], object]

    def __str__(self) -> str:
        return self.patch.__name__


def on_classifier(name: str) -> Callable[[Case], None]:
    return lambda case: CHECKS[name](case, CLASSIFIER)


birth, count, frozen, disabled, split, saved, merge = map(
    on_classifier, ("birth", "count", "frozen", "disabled", "split", "checkpoint", "merge-float32")
)


MUTANTS = [
    Mutant(quarter_scale, LORA, check_formula),
    Mutant(transposed, LORA, check_formula),
    Mutant(drawn_b, LORA, birth),
    Mutant(trainable_weight, LORA, count),
    Mutant(trainable_bias, LORA, count),
    Mutant(drifting_weight, LORA, frozen),
    Mutant(merged_twice, LORA, merge),
    Mutant(merged_in_place, LORA, merge),
    Mutant(nothing_disabled, LORA, disabled),
    Mutant(subtracting, Case("bitfit", 394), disabled),
    Mutant(dora_with_its_norm_in_the_gradient, Case("dora", 6642), check_formula),
    Mutant(dora_per_column, Case("dora", 6642), check_formula),
    Mutant(oft_reversed, Case("oft", 1752), check_formula),
    Mutant(oft_merged_on_the_wrong_side, Case("oft", 1752), merge),
    Mutant(lokr_reversed, Case("lokr", 980), check_formula),
    Mutant(pissa_on_the_whole_weight, Case("pissa", 6248), birth),
    Mutant(redrawn_a, Case("lora-fa", 1576), saved),
    Mutant(trained_a, Case("lora-fa", 1576), count),
    Mutant(prompt_off_the_weight, Case("prompt", 784), split),
    Mutant(bias_not_scaled, Case("ia3", 394), merge),
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_a_mutant_is_caught(mutant: Mutant, monkeypatch: Patch) -> None:
    mutant.check(mutant.case)
    mutant.patch(monkeypatch)
    with pytest.raises((AssertionError, UsageError)):  # merging looks at its result itself
        mutant.check(mutant.case)


def test_every_mutant_of_the_list_has_its_one_place() -> None:
    """`python tests/mutants.py` tries them; it takes minutes."""
    astray = [str(mutant) for mutant in mutant_list.MUTANTS if mutant.places() != 1]
    assert not astray
    assert len(mutant_list.MUTANTS) >= 60
    assert {f"lorabench/methods/{name.replace('-', '_')}.py" for name in methods.METHODS} <= {
        mutant.file for mutant in mutant_list.MUTANTS
    }
