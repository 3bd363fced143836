"""What a method has done to a model, noted beside the model, so that it can be taken off and put back.

The note names modules, not tensors: it survives `deepcopy`, pickling, `load_state_dict(assign=True)`, `to_empty` and a
change of device, and stands in no state dict and in no count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lorabench.errors import UsageError
from lorabench.methods.wrapper import Wrapper, replace

_NOTE = "lorabench_applied"
"""The attribute of a model that holds its notes, by the adapters' names."""
_PART = "lorabench_part"
"""The attribute of each module inside that was changed."""

ZERO = torch.zeros(())
"""The penalty of a method that has none; it adds to a loss on any device."""

Place = tuple[nn.Module, str]
"""A module, and the name that a tensor has in it."""


@dataclass
class Applied:
    """One adapter: a method on a model.

    Attributes:
        method: its name.
        options: its settings, complete.
        targets: the layers that it adapts, by name, each with the options that it has of its own.
        also_train: names of the modules that are trained beside it.
        flags: `requires_grad` of each parameter before, by its name.
        wrappers: what stands in the layers' places.
        trained: parameters that the model had anyway and that are trained now.
        places: `trained`, and all buffers that the model had.
        found: the values that these had.
        values: the values that they have, while the adapter is off.
        state: `on`, in the model; `off`, another is; `disabled`, for a while.
    """

    method: str
    options: dict[str, Any]
    targets: dict[str, dict[str, Any]]
    also_train: list[str]
    flags: dict[str, bool]
    wrappers: list[Wrapper]
    trained: list[Place]
    places: list[Place]
    found: list[Tensor]
    values: list[Tensor] = field(default_factory=list[Tensor])
    state: Literal["on", "off", "disabled"] = "on"

    def __post_init__(self) -> None:
        """Find, once, the wrappers and the modules they have added that take part in a training loop."""
        inside = [part for wrapper in self.wrappers for part in wrapper.modules() if part is not wrapper.inner]
        self.penalised: list[Any] = [part for part in inside if hasattr(type(part), "penalty")]
        self.stepping: list[Any] = [part for part in inside if hasattr(type(part), "after_step")]

    def take_off(self, model: nn.Module, state: Literal["off", "disabled"]) -> None:
        """Make `model` the base again, bit for bit.

        Raises:
            UsageError: the base had no values when the method was applied.
        """
        if any(value.is_meta for value in self.found):
            raise UsageError("the method was applied on the device meta, before the model had values: there is no base")
        replace(model, {wrapper: wrapper.inner for wrapper in self.wrappers})
        self.values = self._exchange(self.found, copy=state == "off")
        self.state = state

    def put_back(self, model: nn.Module) -> None:
        """Undo `take_off`; what stood aside follows the model to its device and its mode."""
        self._exchange(self.values, copy=False)
        self.values = []
        for wrapper in self.wrappers:
            wrapper.to(wrapper.inner.weight.device).train(wrapper.inner.training)
        replace(model, {wrapper.inner: wrapper for wrapper in self.wrappers})
        self.state = "on"

    def train(self, flag: bool) -> None:
        """Let what the adapter trains of the model's own parameters require a gradient, or not."""
        for module, name in self.trained:
            getattr(module, name).requires_grad_(flag)

    def _exchange(self, values: list[Tensor], *, copy: bool) -> list[Tensor]:
        """Give the tensors at `places` these values, or copies; what they had.

        They get other memory, and keep what autograd knows of them: a graph that was built before goes on.
        """
        tensors: list[Tensor] = [getattr(module, name) for module, name in self.places]
        before = [tensor.data for tensor in tensors]  # of all at first: what is tied has several places
        for tensor, value in zip(tensors, values, strict=True):
            # Buffers, as running statistics, may move inside; the value that is kept must not.
            tensor.data = value.to(tensor.device, tensor.dtype, copy=copy or not isinstance(tensor, nn.Parameter))
        return before


def buffers(model: nn.Module) -> list[Place]:
    """Where the model's buffers are; in every place, as `load_state_dict(assign=True)` tears apart what is tied."""
    return [(module, name) for module in model.modules() for name, _ in module.named_buffers(recurse=False)]


def trained(model: nn.Module, ours: set[nn.Parameter]) -> list[Place]:
    """Where those of the parameters `ours` are that require a gradient; in every place too."""
    places = ((module, name, p) for module in model.modules() for name, p in module.named_parameters(recurse=False))
    return [(module, name) for module, name, parameter in places if parameter.requires_grad and parameter in ours]


def values(places: Sequence[Place]) -> list[Tensor]:
    """Copies of the values there, one of what is tied."""
    tensors: list[Tensor] = [getattr(module, name) for module, name in places]
    copies = {id(tensor): tensor for tensor in tensors}
    copies = {key: tensor.detach().clone() for key, tensor in copies.items()}
    return [copies[id(tensor)] for tensor in tensors]


def notes(model: nn.Module) -> tuple[nn.Module, dict[str, Applied]]:
    """The module in `model` that a method was applied to, and its adapters by name; `model` and none if none was.

    Raises:
        UsageError: the method was applied to a larger model that this is a part of.
    """
    part = False
    for module in model.modules():
        if _NOTE in vars(module):
            return module, cast("dict[str, Applied]", vars(module)[_NOTE])
        part = part or _PART in vars(module)
    if part:
        raise UsageError("a method was applied to the model that this is a part of: name that model")
    return model, {}


def note(root: nn.Module, name: str, applied: Applied) -> None:
    """Note an adapter of `root`."""
    vars(root).setdefault(_NOTE, {})[name] = applied
    for module in [*applied.wrappers, *(module for module, _ in applied.trained)]:
        vars(module)[_PART] = True


def lift(root: nn.Module) -> dict[str, Applied]:
    """Take up all notes of `root`, for `put_down`: until then it is as if plain."""
    adapters = notes(root)[1]
    forget(root)
    return adapters


def put_down(root: nn.Module, adapters: dict[str, Applied]) -> None:
    """Note these adapters of `root`, and no others."""
    forget(root)
    for name, adapter in adapters.items():
        note(root, name, adapter)


def active(model: nn.Module) -> tuple[nn.Module, Applied | None]:
    """The module that a method was applied to, and the adapter that is in it now.

    Raises:
        UsageError: as `notes`, or its method is disabled for a while.
    """
    root, adapters = notes(model)
    if any(applied.state == "disabled" for applied in adapters.values()):
        raise UsageError("the model's method is disabled here: leave `with methods.disabled(model)` first")
    return root, next((applied for applied in adapters.values() if applied.state == "on"), None)


def restore_flags(root: nn.Module, flags: dict[str, bool]) -> None:
    """Let each parameter of a plain model require a gradient if it did before; a new one, as a bias, does."""
    for name, parameter in root.named_parameters():
        parameter.requires_grad_(flags.get(name, True))


def forget(root: nn.Module) -> None:
    """Strike out all that is noted of `root`."""
    vars(root).pop(_NOTE, None)
    for module in root.modules():
        vars(module).pop(_PART, None)
