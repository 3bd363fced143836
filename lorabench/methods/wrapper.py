"""What a method puts in a linear layer's place, and how all of a model's layers are replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.errors import UsageError


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


def added(tensor: Tensor, weight: Tensor) -> Tensor:
    """`tensor` where and as what is added to a layer of this weight is: on its device, in float32 at least."""
    return tensor.to(weight.device, torch.promote_types(weight.dtype, torch.float32))


def transposed(layer: nn.Module) -> bool:
    """Whether the layer keeps its weight as (n, m): an embedding, or a `Conv1D` of transformers, as in GPT-2."""
    return type(layer) is nn.Embedding or (type(layer).__name__ == "Conv1D" and hasattr(layer, "nf"))


def matrix(layer: nn.Linear) -> Tensor:
    """The layer's weight as (m, n)."""
    return layer.weight.t() if transposed(layer) else layer.weight.flatten(1)


def sides(layer: nn.Linear) -> tuple[int, int]:
    """Its numbers of inputs and outputs, n and m: of a convolution at one place, of an embedding n are the ids."""
    m, n = matrix(layer).shape
    return n, m


class Wrapper(nn.Module):
    """A frozen linear layer, `inner`, and what a method adds to it; it stands in for that layer everywhere.

    `weight` and `bias` are those of the one linear layer that computes the same, made when asked for: PyTorch's fast
    paths read them. They are no parameters and in no state dict.

    What is added to a layer of half precision is float32, so that small steps move it: `forward` gives what the layer
    gives, in its type, and `merged` rounds once. Cast the model afterwards, `model.bfloat16()`, for what is added too.
    """

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.in_features, self.out_features = sides(inner)
        for name in getattr(inner, "__constants__", ()):  # what models read of a layer, as a convolution's stride
            setattr(self, name, getattr(inner, name))
        self.lr_scales: dict[str, float] = {}  # of own parameters, by name: times the learning rate
        self.trained_buffers: tuple[str, ...] = ()  # names of own buffers that training changes

    def own(self, tensor: Tensor, *, trained: bool = True) -> nn.Parameter:
        """A parameter of these values, on the layer's device, in the type of what is added."""
        return nn.Parameter(added(tensor, self.inner.weight), requires_grad=trained)

    @property
    def dtype(self) -> torch.dtype:
        """The type of what is added."""
        # Asked in every forward. A layer whose parameters are all in modules of its own, as an adapter's, has none.
        return cast("Tensor", next(iter(self._parameters.values()), self.inner.weight)).dtype

    @property
    def W0(self) -> Tensor:
        """The layer's weight (m, n) in the type of what is added."""
        return matrix(self.inner).to(self.dtype)

    def shaped(self, W: Tensor) -> Tensor:
        """W (m, n) in the shape in which the layer keeps its weight."""
        return (W.t() if transposed(self.inner) else W).reshape(self.inner.weight.shape)

    @property
    def weight(self) -> Tensor:
        """W1, of the layer's shape and type; `NoWeight` for a method that gives none."""
        W1, W0 = self.merged_weight(), self.inner.weight
        if W1 is None:
            return W0.detach().as_subclass(NoWeight)
        return self.shaped(W1).to(W0.dtype)

    @property
    def bias(self) -> Tensor | None:
        """b1 (m,) in the type of the layer's, or None."""
        b1 = self.merged_bias()
        return None if b1 is None else b1.to(self.inner.weight.dtype)

    def __prepare_scriptable__(self) -> NoReturn:
        """What `torch.jit.script` asks each module for first: refuse, with a way out, what it would end within."""
        raise UsageError(
            "TorchScript cannot compile a method's layers: script methods.merge(model), or trace the model"
        )

    def merged_weight(self) -> Tensor | None:
        """W1 (m, n) of one linear layer that computes the same, not rounded; None if there is no such layer."""

    def merged_bias(self) -> Tensor | None:
        """b1 (m,) of that layer, not rounded; None if it has none."""
        return getattr(self.inner, "bias", None)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that computes the same, with W1 and b1 for its weight and bias.

        Raises:
            UsageError: there is none.
        """
        layer, bias = copy.deepcopy(self.inner), self.bias
        layer.weight.copy_(self.weight)
        if bias is not None:
            layer.register_parameter("bias", nn.Parameter(bias.clone()))
        return layer

    def probe(self) -> Tensor:
        """Eight random inputs for the layer, from a generator of its own: numbers (8, n), images, or ids."""
        layer, generator = cast("nn.Module", self.inner), torch.Generator().manual_seed(0)
        if isinstance(layer, nn.Embedding):
            return torch.randint(layer.num_embeddings, (8,), generator=generator).to(layer.weight.device)
        shape = [self.in_features]
        if isinstance(layer, nn.Conv2d):
            padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
            windows = zip(layer.kernel_size, layer.dilation, padding, strict=True)
            shape = [layer.in_channels, *(size * apart + beside for size, apart, beside in windows)]
        return torch.randn(8, *shape, generator=generator).to(self.inner.weight)

    @torch.no_grad()
    def merging_error(self, layer: nn.Module) -> float:
        """How far `layer`, merged, is off on `probe`, as a share of what rounding explains; 0 on the device meta."""
        weight = self.inner.weight
        if weight.is_meta:
            return 0.0
        x, rounding, mode = self.probe(), torch.finfo(weight.dtype), self.training
        self.training = False  # a dropout of its own is no part of it
        expected, got = self.forward(x).double(), layer(x).double()
        self.training = mode
        exact = weight.dtype != torch.float32 or x.is_cpu or torch.get_float32_matmul_precision() == "highest"
        allowed = (16 if weight.itemsize < 4 else 1000) * (rounding.eps if exact else 2**-10)
        off = (got - expected).abs().max() / expected.abs().max().clamp(min=rounding.tiny)
        return (off / allowed).item()


class SplitWrapper(Wrapper):
    """A wrapper whose forward comes in two, see frozen.py: what no step changes, and what `tuned` makes of it."""

    tuned: Callable[..., Tensor]
    """The output (..., m) of what `frozen_part` gives, all in the type of what is added."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, ...]:
        """The frozen half: x itself and, last, what the frozen layer gives, (..., m)."""
        return x, self.inner(x)

    def trainable_part(self, *kept: Tensor) -> Tensor:
        """The trainable half, (..., m): computed in the type of what is added, given in the layer's."""
        dtype, given = self.dtype, kept[-1].dtype
        if dtype == given:
            return self.tuned(*kept)
        return self.tuned(*[part.to(dtype) if part.is_floating_point() else part for part in kept]).to(given)


class RemadeWrapper(Wrapper):
    """A wrapper that computes with `merged_weight`, made anew in each forward, in the type of what is added."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        W1, b1 = cast("Tensor", self.merged_weight()), self.merged_bias()
        if W1.dtype == self.inner.weight.dtype:
            return F.linear(x, W1, b1)
        return F.linear(x.to(W1.dtype), W1, None if b1 is None else b1.to(W1.dtype)).to(x.dtype)


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
