"""Every way to fine-tune that lorabench knows, and what all of them have in common.

    methods.apply(model, "lora", k=4)      # wraps the linear layers of an already loaded model
    methods.count(model)                   # total, trainable and frozen numbers of parameters
    with methods.disabled(model): ...      # the base again, bit for bit
    methods.merge(model)                   # a plain model that computes the same

A method is one file with `apply(model, targets, **options)` and one entry in `METHODS` (registry.py). Its whole
contract is PyTorch's own flag: after `apply`, `requires_grad` is true on exactly what the method trains. What is
optimised, counted, saved and checked derives from it. A method either trains a linear layer's own parameters, or
replaces the layer by a `Wrapper` (wrapper.py) that keeps it, frozen, as `inner` and stands in for it everywhere. An
`apply` that raises leaves the model as it was. A method may say more, and training, PyTorch and export listen:

    weight, bias                           # of a wrapper: those of one linear layer that computes the same; for merging
    frozen_part(x), trainable_part(...)    # of a wrapper: its forward in two, see frozen.py
    penalty(self) -> Tensor                # of any module: added to the loss
    after_step(self, step, steps)          # of any module: called after each step, gradients still there
    parameter.lr_scale: float              # of a parameter: times the learning rate

Importing this room imports no torch; a method's file is imported when used.
"""

from __future__ import annotations

import contextlib
import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError

from lorabench.errors import UsageError
from lorabench.methods.registry import METHODS, Exemption, Method, every, since

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from lorabench.methods.registry import Options, Shapes
    from lorabench.methods.wrapper import Wrapper

__all__ = [
    "METHODS",
    "Count",
    "Exemption",
    "Method",
    "apply",
    "complete",
    "count",
    "disabled",
    "every",
    "linear_layers",
    "merge",
    "since",
    "targeted",
    "warnings",
]

_MARK = "lorabench_method"
"""The attribute of a wrapper that names its method."""
_BASE = "lorabench_base_"
"""How the buffer begins that keeps what an in-place method found. It is in no count, state dict or checkpoint."""


class Count(NamedTuple):
    """Numbers of parameters of a model."""

    total: int
    trainable: int
    frozen: int


def complete(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All of a method's own settings: `options`, and defaults for the rest.

    Raises:
        UsageError: no such method or option, or a value that it cannot take.
    """
    if name not in METHODS:
        raise UsageError(f"no method is called {name!r}; known: {', '.join(METHODS)}")
    try:
        return METHODS[name].model.model_validate(dict(options)).model_dump()
    except ValidationError as error:
        raise UsageError("; ".join(_problem(name, cast("dict[str, Any]", e)) for e in error.errors())) from None


def _problem(name: str, error: dict[str, Any]) -> str:
    option, message = error["loc"][0], error["msg"]
    if error["type"] == "extra_forbidden":
        return f"{name} has no option {option!r}; it has {', '.join(METHODS[name].options) or 'none'}"
    return f"{name}: {option} = {error['input']!r}: {message[0].lower()}{message[1:]}"


def linear_layers(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Names of the model's linear layers, each with its numbers of inputs and outputs.

    Subclasses of `nn.Linear` are left out: who makes one, as `nn.MultiheadAttention` does, reads its weight directly.
    """
    from torch import nn

    return {name: (m.in_features, m.out_features) for name, m in _modules(model) if type(m) is nn.Linear}


def targeted(model: nn.Module, name: str, targets: Sequence[str] | None = None, **options: Any) -> list[str]:
    """The linear layers that `apply` would adapt: `targets`, or else those that the method goes to by itself.

    Raises:
        UsageError: no such method, option or layer; a layer named twice; or nothing to adapt.
    """
    chosen = complete(name, options)
    layers = list(linear_layers(model))
    if "" in layers:
        raise UsageError("the model is itself a linear layer; methods adapt those inside a model: nn.Sequential(layer)")
    if isinstance(targets, str):
        raise UsageError(f"targets are a list of names: [{targets!r}], not {targets!r}")
    if targets is None:
        targets = METHODS[name].where(layers, chosen)
    for target in targets:
        if target not in layers:
            raise UsageError(f"the model has no linear layer {target!r}; it has {', '.join(layers) or 'none'}")
    if twice := [target for target in dict.fromkeys(targets) if list(targets).count(target) > 1]:
        raise UsageError(f"the layer {twice[0]!r} is named twice")
    if not targets:
        raise UsageError(f"{name} finds no linear layer to adapt among {', '.join(layers) or 'none'}")
    return list(targets)


def apply(model: nn.Module, name: str, *, targets: Sequence[str] | None = None, **options: Any) -> None:
    """Make `model` ready to be fine-tuned by the method `name`, in place.

    Args:
        model: a trained model with `nn.Linear` layers, not yet wrapped.
        name: a key of `METHODS`.
        targets: names of the linear layers to adapt; None for those that the method goes to by itself.
        options: the method's own settings; defaults fill the rest.

    What a method draws, it draws from torch's global generator on the CPU: seed it before. A layer that the model holds
    under several names is adapted once, under all of them. If this raises, whatever it raises, the model is as before.

    Raises:
        UsageError: no such method, option or layer; a layer named twice, or one that the method cannot adapt; or a
            method was applied before.
    """
    if _wrappers(model) or _kept(model):
        raise UsageError("a method was applied to this model before; merge it first")
    found = targeted(model, name, targets, **options)
    chosen = complete(name, options)
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    plain = {target: model.get_submodule(target) for target in found}
    try:
        model.requires_grad_(False)
        import_module(f"lorabench.methods.{name.replace('-', '_')}").apply(model, found, **chosen)
        _remember(model, name, plain, flags)
    except BaseException:
        _take_back(model, plain, flags)
        raise


def _remember(model: nn.Module, name: str, plain: Mapping[str, nn.Module], flags: Mapping[nn.Parameter, bool]) -> None:
    """Write on each new wrapper whose it is, and beside each parameter that is now trained in place what it was."""
    for target, layer in plain.items():
        if (wrapper := model.get_submodule(target)) is not layer:
            vars(wrapper)[_MARK] = name
    found = set(flags)
    for module in model.modules():
        for own, parameter in list(module.named_parameters(recurse=False)):
            if parameter.requires_grad and parameter in found:
                found.remove(parameter)  # two modules may share it
                module.register_buffer(_BASE + own, parameter.detach().clone(), persistent=False)


def _take_back(model: nn.Module, plain: Mapping[str, nn.Module], flags: Mapping[nn.Parameter, bool]) -> None:
    """Undo what an `apply` that could not finish has done."""
    from lorabench.methods.wrapper import replace

    for module, own in _kept(model):
        delattr(module, _BASE + own)
    replace(model, {new: old for target, old in plain.items() if (new := model.get_submodule(target)) is not old})
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)


@contextlib.contextmanager
def disabled(model: nn.Module) -> Generator[None]:
    """Inside, `model` is the base that the method was applied to, bit for bit; afterwards it is fine-tuned again."""
    from lorabench.methods.wrapper import replace

    wrappers, kept = _wrappers(model), _kept(model)
    replace(model, {wrapper: wrapper.inner for wrapper in wrappers})
    _swap(kept)
    try:
        yield
    finally:
        _swap(kept)
        replace(model, {wrapper.inner: wrapper for wrapper in wrappers})


def merge(model: nn.Module) -> nn.Module:
    """A plain copy of a fine-tuned model that computes the same: every wrapper is one linear layer again.

    Raises:
        UsageError: the method does not merge.
    """
    from lorabench.methods.wrapper import NoWeight, replace

    plain = copy.deepcopy(model)
    wrappers = _wrappers(plain)
    for wrapper in wrappers:
        if isinstance(wrapper.weight, NoWeight):
            method: str = vars(wrapper)[_MARK]
            reason = next(e.reason for e in METHODS[method].exemptions if e.clause == "merge")
            raise UsageError(f"{method} does not merge: {reason}")
    replace(plain, {wrapper: wrapper.merged() for wrapper in wrappers})
    for module, own in _kept(plain):
        delattr(module, _BASE + own)
    return plain.requires_grad_(True)


def count(model: nn.Module) -> Count:
    """Parameters of the model: in all, those that the method trains, and the rest."""
    total = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Count(total, trainable, total - trainable)


def warnings(shapes: Shapes, options: Options, name: str = "lora") -> list[str]:
    """What a user should know about these options before training with them."""
    k = options.get("k")
    small = min(min(n, m) for n, m in shapes)
    if k is None or k <= small or not METHODS[name].low_rank:
        return []
    reason = f"an update of rank {small} already reaches every weight matrix there, so any column more is redundant"
    return [f"k = {k} is above {small}, the smaller side of one of the layers: {reason}"]


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return cast("Iterator[tuple[str, nn.Module]]", model.named_modules())


def _wrappers(model: nn.Module) -> list[Wrapper]:
    return [cast("Wrapper", module) for _, module in _modules(model) if _MARK in vars(module)]


def _kept(model: nn.Module) -> list[tuple[nn.Module, str]]:
    """Modules with a parameter that is trained in place, each with the parameter's own name."""
    return [
        (module, own.removeprefix(_BASE))
        for module in model.modules()
        for own, _ in module.named_buffers(recurse=False)
        if own.startswith(_BASE)
    ]


def _swap(kept: list[tuple[nn.Module, str]]) -> None:
    for module, own in kept:
        trained: Tensor = getattr(module, own)
        base: Tensor = getattr(module, _BASE + own)
        trained.data, base.data = base.data, trained.data
