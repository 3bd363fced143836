"""Every way to fine-tune that lorabench knows, and what all of them have in common.

    methods.apply(model, "lora", k=4)      # wraps the linear layers of an already loaded model
    methods.count(model)                   # total, trainable and frozen numbers of parameters
    methods.parameter_groups(model, lr)    # for any optimiser; penalty and after_step for its loop
    with methods.disabled(model): ...      # the base again, bit for bit
    methods.merge(model)                   # a plain model that computes the same
    methods.save(model, path)              # the adapter alone; load puts it on its base again, use switches by name

A method is one file with `apply(model, targets, **options)` and one entry in `METHODS` (registry.py), a `Method`
(entry.py). Its whole contract is PyTorch's own flag: after `apply`, `requires_grad` is true on exactly what the method
trains. What is optimised, counted, saved and checked derives from it. A method either trains a linear layer's own
parameters, or replaces the layer by a `Wrapper` (wrapper.py) that keeps it, frozen, as `inner` and stands in for it
everywhere. An `apply` that raises leaves the model as it was. A method may say more, and training, PyTorch and export
listen:

    merged_weight(), merged_bias()         # of a wrapper: of one linear layer that computes the same; for merging
    frozen_part(x), trainable_part(...)    # of a wrapper: its forward in two, see frozen.py
    lr_scales: dict[str, float]            # of a wrapper: times the learning rate, of its parameters by name
    penalty(self) -> Tensor                # of a wrapper, or a module in it: added to the loss
    after_step(self, step, steps)          # of the same: called after each step, gradients still there

Importing this room imports no torch; a method's file is imported when used.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
from collections.abc import Generator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import ValidationError

from lorabench.errors import UsageError
from lorabench.methods.entry import Exemption, Method, Options, Shapes, every, since
from lorabench.methods.registry import METHODS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lorabench.methods.adapters import load, save, use
    from lorabench.methods.applied import Applied
    from lorabench.methods.layers import Targets


__all__ = [
    "METHODS",
    "Count",
    "Exemption",
    "Method",
    "after_step",
    "apply",
    "complete",
    "count",
    "disabled",
    "every",
    "linear_layers",
    "load",
    "merge",
    "parameter_groups",
    "penalty",
    "remove",
    "save",
    "since",
    "targeted",
    "use",
    "warnings",
]


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
        near = difflib.get_close_matches(name, METHODS, n=3, cutoff=0.5)
        raise UsageError(
            f"no method is called {name!r}; {'the nearest' if near else 'known'}: {', '.join(near or METHODS)}"
        )
    try:
        return METHODS[name].model.model_validate(dict(options)).model_dump()
    except ValidationError as error:
        raise UsageError("; ".join(_problem(name, cast("dict[str, Any]", e)) for e in error.errors())) from None


OURS = {
    "r": "k",
    "rank": "k",
    "lora_alpha": "alpha",
    "init_lora_weights": "init",
    "target_modules": "targets",
    "modules_to_save": "also_train",
}
"""PEFT's words for what is called otherwise here."""


def _problem(name: str, error: dict[str, Any]) -> str:
    option, message = error["loc"][0], error["msg"]
    if error["type"] == "extra_forbidden":
        ours = f"; here that is {OURS[option]}" if option in OURS else ""
        return f"{name} has no option {option!r}{ours}; it has {', '.join(METHODS[name].options) or 'none'}"
    return f"{name}: {option} = {error['input']!r}: {message[0].lower()}{message[1:]}"


def linear_layers(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Names of the model's linear layers, each with its numbers of inputs and outputs.

    Those that are more than that are left out: pruned, parametrised, quantised, with a hook, of a subclass.
    """
    from lorabench.methods import layers

    return layers.linear(model)


def targeted(model: nn.Module, name: str, targets: Targets | None = None, **options: Any) -> list[str]:
    """The layers that `apply` would adapt: `targets`, or else those that the method goes to by itself.

    That is every linear layer but a language model's output head and those that share their weight, unless the method
    says otherwise; `full` goes to whatever has parameters, `bitfit` to whatever has a bias.

    Raises:
        UsageError: no such method, option or layer; a layer named twice, or one that the method cannot adapt; or
            nothing to adapt.
    """
    from lorabench.methods import layers

    return layers.targeted(model, name, targets, complete(name, options))


def apply(
    model: nn.Module,
    name: str,
    *,
    targets: Targets | None = None,
    also_train: Targets = (),
    **options: Any,
) -> None:
    """Make `model` ready to be fine-tuned by the method `name`, in place.

    Args:
        model: a trained model, not yet wrapped.
        name: a key of `METHODS`.
        targets: the layers to adapt, linear ones or for `lora` also `nn.Conv2d` and `nn.Embedding`: their names,
            patterns as `*.fc1`, or a function of a layer's name and the layer that says yes or no; a dictionary
            `{"*.fc1": {"k": 8}, "*": {}}` gives layers options of their own, by the first key that matches; None for
            those that the method goes to by itself.
        also_train: modules of any kind that are trained whole beside it, as heads and norms, told in the same ways.
        options: the method's own settings; defaults fill the rest.

    Warns (`layers.LeftOutWarning`) of layers that the method would be expected to go to by itself and cannot adapt.
    What a method draws, it draws from torch's global generator on the CPU: seed it before. A layer that the model holds
    under several names is adapted once, under all of them. Gradients of before are dropped: an optimiser that still
    holds a frozen parameter would move it by them. If this raises, whatever it raises, the model is as before.

    Raises:
        UsageError: no such method, option or layer; a layer named twice, or one that the method cannot adapt; or a
            method was applied before.
    """
    from lorabench.methods import applied, layers
    from lorabench.methods.wrapper import Wrapper, replace

    if applied.notes(model)[1]:
        raise UsageError("a method was applied to this model before; merge or remove it first")
    adapted = targeted(model, name, targets, **options)
    chosen = complete(name, options)
    particular = layers.own_options(targets, adapted)
    alike: dict[tuple[Any, ...], list[str]] = {}  # layers of the same settings
    for target in adapted:
        alike.setdefault(tuple(complete(name, {**options, **particular[target]}).values()), []).append(target)
    beside = _beside(model, adapted, also_train)
    if targets is None:
        layers.warn_of_left_out(model, name)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    before = {own: (parameter.requires_grad, parameter.grad) for own, parameter in parameters.items()}
    plain = {target: model.get_submodule(target) for target in adapted}
    places = applied.buffers(model)
    try:
        model.requires_grad_(False)
        method = import_module(f"lorabench.methods.{name.replace('-', '_')}")
        for settings, names in alike.items():
            method.apply(model, names, **dict(zip(chosen, settings, strict=True)))
        for module in beside.values():
            module.requires_grad_(True)
        wrappers = [new for target in adapted if isinstance(new := model.get_submodule(target), Wrapper)]
        trained = applied.trained(model, set(parameters.values()))
        places = [*trained, *places]
        flags = {own: flag for own, (flag, _) in before.items()}
        new = applied.Applied(
            name, chosen, particular, list(beside), flags, wrappers, trained, places, applied.values(places)
        )
        for parameter in parameters.values():
            parameter.grad = None
    except BaseException:
        replace(model, {new: old for target, old in plain.items() if (new := model.get_submodule(target)) is not old})
        for own, (flag, gradient) in before.items():
            parameters[own].requires_grad_(flag)
            parameters[own].grad = gradient
        raise
    applied.note(model, name, new)


def _beside(model: nn.Module, targets: Sequence[str], also_train: Targets) -> dict[str, nn.Module]:
    """The modules to train whole, by name: none of them an adapted layer, or with a parameter of one."""
    from lorabench.methods import layers

    modules = dict(layers.modules(model))
    names = list(modules)
    wanted = layers.matching(model, also_train, names)
    if wrong := [name for name in wanted if name not in modules]:
        raise UsageError(f"also_train: the model has no module {wrong[0]!r}; it has {', '.join(names[1:])}")
    chosen = {name: modules[name] for name in wanted}
    adapted = {p: target for target in targets for p in model.get_submodule(target).parameters()}
    for name, module in chosen.items():
        if (first := next(module.parameters(), None)) is None:
            raise UsageError(f"also_train: {name!r} has no parameters")
        if clash := next((adapted[p] for p in (first, *module.parameters()) if p in adapted), None):
            raise UsageError(f"also_train: {name!r} has parameters of {clash!r}, which the method adapts")
    return chosen


@contextlib.contextmanager
def disabled(model: nn.Module) -> Generator[None]:
    """Inside, `model` is the base that the method was applied to, bit for bit; afterwards it is fine-tuned again.

    That includes what training moves beside the parameters, as BatchNorm's running statistics. Inside another
    `disabled` it changes nothing.

    Raises:
        UsageError: the method was applied to a larger model, or before the model had values.
    """
    from lorabench.methods import applied

    root, adapters = applied.notes(model)
    on = [adapter for adapter in adapters.values() if adapter.state == "on"]
    for adapter in on:
        adapter.take_off(root, "disabled")
    try:
        yield
    finally:
        for adapter in on:
            adapter.put_back(root)


def remove(model: nn.Module) -> None:
    """Make `model` the base again, bit for bit, in place and for good; each parameter requires a gradient as it did.

    Raises:
        UsageError: the method was applied to a larger model, or before the model had values, or is disabled here.
    """
    from lorabench.methods import applied

    root, on = applied.active(model)
    if on:
        on.take_off(root, "off")
    for adapter in applied.lift(root).values():
        applied.restore_flags(root, adapter.flags)  # the same of all


def merge(model: nn.Module) -> nn.Module:
    """A plain copy of a fine-tuned model that computes the same: every wrapper is one linear layer again.

    Each parameter requires a gradient as it did before the method was applied. What each layer computes is compared
    with its wrapper's on random inputs. What adds to a layer's outputs, as a prompt, gives a layer without a bias one.

    Raises:
        UsageError: the method does not merge, or is disabled here, or was applied to a larger model; or a layer would
            compute something else merged, as one with a hook may.
    """
    from lorabench.methods import applied, layers
    from lorabench.methods.wrapper import replace

    root, on = applied.active(model)
    where = next(path for path, module in layers.modules(model) if module is root)
    _, adapters = applied.notes(model)
    plain = copy.deepcopy(model, {id(adapters): None})  # without what is kept beside the model
    inside = plain.get_submodule(where)
    applied.forget(inside)
    replace(inside, {inside.get_submodule(target): layer for target, layer in _merged(on).items()} if on else {})
    for adapter in adapters.values():
        applied.restore_flags(inside, adapter.flags)  # the same of all
    return plain


def __getattr__(name: str) -> Any:
    """`save`, `load` and `use` of adapters.py, which imports torch."""
    if name in ("save", "load", "use"):
        return getattr(import_module("lorabench.methods.adapters"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _merged(on: Applied) -> dict[str, nn.Module]:
    """A plain layer for each wrapper, by its name."""
    plain: dict[str, nn.Module] = {}
    for target, wrapper in zip(on.targets, on.wrappers, strict=False):  # in place, a method has targets and no wrappers
        if wrapper.merged_weight() is None:
            reason = next(e.reason for e in METHODS[on.method].exemptions if e.clause == "merge")
            raise UsageError(f"{on.method} does not merge: {reason}")
        plain[target] = wrapper.merged()
        if (off := wrapper.merging_error(plain[target])) > 1:
            raise UsageError(f"{target} merged would compute something else, by {off:.3g} times what rounding explains")
    return plain


def parameter_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """What a method trains, as groups of parameters that any optimiser of `torch.optim` takes.

    Args:
        model: a model with a method applied, or a plain one.
        lr: the learning rate; a group has it times what its parameters ask for, as LoRA+'s B do.

    Returns:
        dictionaries with `params` and `lr`.
    """
    from lorabench.methods.wrapper import Wrapper

    groups: dict[float, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module in model.modules():
        scales = module.lr_scales if isinstance(module, Wrapper) else {}
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                groups.setdefault(scales.get(name, 1.0), []).append(parameter)
    return [{"params": parameters, "lr": lr * scale} for scale, parameters in groups.items()]


def penalty(model: nn.Module) -> Tensor:
    """What a method adds to the loss, a scalar; 0 for most."""
    from lorabench.methods import applied

    _, on = applied.active(model)
    return sum((part.penalty() for part in (on.penalised if on else ())), start=applied.ZERO)


def after_step(model: nn.Module, step: int, steps: int) -> None:
    """What a method does after each step of an optimiser, while the gradients are still there; nothing for most.

    Args:
        model: a model with a method applied, or a plain one.
        step: how many steps came before this one.
        steps: how many there will be in all.
    """
    from lorabench.methods import applied

    _, on = applied.active(model)
    for part in on.stepping if on else ():
        part.after_step(step, steps)


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
