"""What a method puts in a linear layer's place, and how all of a model's layers are replaced."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn

from lorabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class NoWeight(Tensor):
    """The weight of a layer that no single weight describes: it tells its shape, type and device, and does no more.

    As a tensor with a `__torch_function__` it also keeps PyTorch's layers off their fast paths, where they would
    compute with the weights of the layers inside instead of calling these.
    """

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Let attributes be read; refuse whatever else is done with it."""
        if func.__name__ == "__get__":
            return cast("Any", super()).__torch_function__(func, types, args, kwargs or {})
        raise UsageError("this layer computes what no single weight does: call it, its weight cannot be used instead")


class Wrapper(nn.Module):
    """A frozen linear layer, `inner`, and what a method adds to it; it stands in for that layer everywhere.

    `weight` and `bias` are those of the one linear layer that computes the same, made when asked for: `merged` makes
    that layer of them, and PyTorch's fast paths read them. They are no parameters and in no state dict.
    """

    __jit_unused_properties__ = ("weight", "bias")  # TorchScript calls the layer, and cannot read these

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.in_features, self.out_features = inner.in_features, inner.out_features

    @property
    def weight(self) -> Tensor:
        """W1 (m, n); `NoWeight` for a method that gives none."""
        return self.inner.weight.detach().as_subclass(NoWeight)

    @property
    def bias(self) -> Tensor | None:
        """b1 (m,), or None."""
        return cast("Tensor | None", self.inner.bias)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that computes the same, with W1 and b1 for its weight and bias.

        Raises:
            UsageError: there is none.
        """
        layer, bias = copy.deepcopy(self.inner), self.bias
        layer.weight.copy_(self.weight)
        layer.register_parameter("bias", None if bias is None else nn.Parameter(bias.clone()))
        return layer


Wrapped = TypeVar("Wrapped", bound=Wrapper)


def wrap(model: nn.Module, targets: Iterable[str], make: Callable[[nn.Linear], Wrapped]) -> list[Wrapped]:
    """Replace each of the linear layers named by `targets` by what `make` makes of it; none before all are made."""
    layers = [cast("nn.Linear", model.get_submodule(name)) for name in targets]
    wrappers = [make(layer).train(layer.training) for layer in layers]
    replace(model, dict(zip(layers, wrappers, strict=True)))
    return wrappers


def replace(model: nn.Module, others: Mapping[nn.Module, nn.Module]) -> None:
    """Put each value of `others` where its key stands in `model`, under every name that it has there."""
    modules = cast("Iterator[tuple[str, nn.Module]]", model.named_modules(remove_duplicate=False))
    for name, module in [(name, module) for name, module in modules if module in others]:
        model.set_submodule(name, others[module])
