"""Which layers of a model a method can adapt, to which of them it goes by itself, and why not to the others."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from torch import nn
from torch.nn.modules.conv import _ConvNd  # pyright: ignore[reportPrivateUsage]

from lorabench.errors import UsageError
from lorabench.methods.entry import Options
from lorabench.methods.registry import METHODS
from lorabench.methods.wrapper import sides, transposed

Targets = Sequence[str] | Mapping[str, Mapping[str, Any]] | Callable[[str, nn.Module], bool]
"""Names of modules, patterns of names as `*.fc1`, either with options, or a function of a module's name and it."""


class LeftOutWarning(UserWarning):
    """A method that chose its layers itself has left out some that one might expect it to adapt."""


def modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module with its first name."""
    return cast("Iterator[tuple[str, nn.Module]]", model.named_modules())


def linear(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Names of the linear layers that are no more than that, each with its numbers of inputs and outputs."""
    return {name: sides(cast("nn.Linear", layer)) for name, layer in modules(model) if why_not(layer) is None}


def why_not(layer: nn.Module, *, wider: bool = False) -> str | None:
    """Why no method puts a wrapper around the layer, or none but those that reach `wider`; None if one can."""
    kind, own = type(layer), dict(layer.named_parameters(recurse=False))
    if nn.utils.parametrize.is_parametrized(layer):
        return "it is parametrised: its weight is made of other parameters"
    if isinstance(layer, nn.MultiheadAttention):
        return "nn.MultiheadAttention reads its weights itself and calls no layer; `full` and `bitfit` train them"
    if kind in (nn.Conv2d, nn.Embedding):
        if not wider:
            able = " and ".join(name for name, method in METHODS.items() if method.wider)
            return f"it is of the class {kind.__name__}, which {able} adapts where it is named in targets"
        if getattr(layer, "max_norm", None) is not None:
            return "with max_norm it changes its own weight whenever it is called"
    elif kind is not nn.Linear and not transposed(layer):
        if isinstance(layer, nn.Linear):
            return f"{kind.__name__} is a Linear of its own kind, whose weight may be read without calling it"
        return f"it is of the class {kind.__name__}"
    if "weight" not in own:
        return f"its weight is made anew before each call, of {', '.join(sorted(own.keys() - {'bias'})) or 'a buffer'}"
    if not own["weight"].is_floating_point():
        return "its weight is quantised"
    calls = vars(layer)
    if calls["_forward_hooks"] or calls["_forward_pre_hooks"] or "forward" in calls:
        return "a hook or a forward of its own makes it more than its class says; add that after the method"
    return None


def output_heads(model: nn.Module) -> set[str]:
    """Names of the layers that make a language model's logits: tied to an embedding, or named by the model itself."""
    embeddings = {id(module.weight) for _, module in modules(model) if isinstance(module, nn.Embedding)}
    own: list[Callable[[], nn.Module | None]] = [
        cast("Any", module).get_output_embeddings
        for _, module in modules(model)
        if hasattr(module, "get_output_embeddings")
    ]
    named = {id(head) for ask in own if (head := ask()) is not None}
    return {
        name
        for name, layer in modules(model)
        if isinstance(layer, nn.Linear)
        and (id(layer) in named or id(vars(layer)["_parameters"].get("weight")) in embeddings)
    }


def own_parameters(module: nn.Module, name: str) -> list[tuple[str, nn.Parameter]]:
    """The parameters of the module itself, not of those inside, that the in-place method `name` trains."""
    biases = METHODS[name].reach == "biases"
    return [(own, p) for own, p in module.named_parameters(recurse=False) if not biases or "bias" in own]


def matching(model: nn.Module, wanted: Targets, names: Sequence[str]) -> list[str]:
    """Those of `names` that are wanted; a name that is none of them, and no pattern of any, as it is.

    Raises:
        UsageError: `wanted` is a string.
    """
    if isinstance(wanted, str):
        raise UsageError(f"targets are a list of names: [{wanted!r}], not {wanted!r}")
    if callable(wanted):
        return [name for name in names if wanted(name, model.get_submodule(name))]
    matched: list[str] = []
    for name in wanted:
        matches = [] if name in names else fnmatch.filter(names, name)
        matched += [match for match in matches if match not in matched] or [name] * (not matches)
    return matched


def own_options(targets: Targets | None, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The options that `targets` gives to each of `names`, by the first key that is it or matches it.

    Raises:
        UsageError: what a key has is no dictionary.
    """
    given = cast("Mapping[str, Any]", targets if isinstance(targets, Mapping) else {})
    if wrong := next((key for key, own in given.items() if not isinstance(own, Mapping)), None):
        raise UsageError(f"targets: {wrong!r} has options of its own as {{{wrong!r}: {{'k': 8}}}}")
    matching = {name: [key for key in given if key == name or fnmatch.fnmatch(name, key)] for name in names}
    return {name: dict(given[keys[0]]) if keys else {} for name, keys in matching.items()}


def shared_with(model: nn.Module, layer: nn.Module) -> str | None:
    """The name of another module that has one of the layer's parameters, as an embedding has a tied head's weight."""
    own = {id(p) for p in layer.parameters(recurse=False)}
    others = ((name, m) for name, m in modules(model) if m is not layer)
    return next((name for name, m in others if any(id(p) in own for p in m.parameters(recurse=False))), None)


def targeted(model: nn.Module, name: str, targets: Targets | None, options: Options) -> list[str]:
    """The modules that the method adapts: `targets`, or else those that it goes to by itself.

    Raises:
        UsageError: a target that the method cannot adapt, or that is named twice; or nothing to adapt.
    """
    method = METHODS[name]
    if method.reach == "linear":
        named = [layer for layer, module in modules(model) if why_not(module, wider=method.wider) is None]
        default = list(linear(model))
        if not method.in_place:
            heads, everything = output_heads(model), dict(modules(model))
            default = [n for n in default if n not in heads and shared_with(model, everything[n]) is None]
    else:
        named = default = [path for path, module in modules(model) if own_parameters(module, name)]
    kind = {"linear": "linear layer", "parameters": "parameter", "biases": "bias"}[method.reach]
    if "" in named and not method.in_place:
        raise UsageError("the model is itself a linear layer; methods adapt those inside a model: nn.Sequential(layer)")
    chosen = list(method.where(default, options)) if targets is None else matching(model, targets, named)
    everything = dict(modules(model))
    for target in chosen:
        if target not in named:
            layer = everything.get(target) if method.reach == "linear" else None
            if layer and (reason := why_not(layer, wider=method.wider)):
                raise UsageError(f"{name} cannot adapt {target!r}: {reason}")
            raise UsageError(f"the model has no {kind} {target!r}; it has {', '.join(named) or 'none'}")
    if twice := [target for target in dict.fromkeys(chosen) if chosen.count(target) > 1]:
        raise UsageError(f"the layer {twice[0]!r} is named twice")
    if not chosen:
        raise UsageError(f"{name} finds no {kind} to adapt among {', '.join(named) or 'none'}{_left(model)}")
    if targets is None and name == "prompt" and options["variant"] != "deep":
        _refuse_keys(model, chosen[0])
    if method.in_place:
        _refuse_shared(model, name, chosen)
    elif shared := [(n, other) for n in chosen if (other := shared_with(model, everything[n])) is not None]:
        raise UsageError(
            f"{name} cannot adapt {shared[0][0]!r}: {shared[0][1]} has its weight too, and would not follow"
        )
    return chosen


def _refuse_keys(model: nn.Module, first: str) -> None:
    """Refuse to prompt, unasked, the layer of an attention's keys: the same added to every key changes no attention."""
    parent, _, own = first.rpartition(".")
    words = own.replace("key", "value").replace("Key", "Value")
    values = words if words != own else own.translate(str.maketrans("kK", "vV"))
    if values != own and values in dict(model.get_submodule(parent).named_children()):
        raise UsageError(
            f"prompt would learn nothing: the first linear layer, {first!r}, makes an attention's keys, of an input "
            f"that {values} gets too, and the same added to every key changes no attention; name others, or take 'deep'"
        )


def _refuse_shared(model: nn.Module, name: str, chosen: Sequence[str]) -> None:
    """Refuse to train what a module that was not chosen holds too, as an embedding does a tied head's weight."""
    for target in chosen:
        for own, parameter in own_parameters(model.get_submodule(target), name):
            for other, module in modules(model):
                if other not in chosen and any(p is parameter for p in module.parameters(recurse=False)):
                    raise UsageError(f"{name} would train {other} too: {own} of {target} is its own as well")


def left_out(model: nn.Module) -> dict[str, str]:
    """Layers with weights like a linear layer's that no method adapts by itself, each with the reason."""
    kinds = (nn.Linear, _ConvNd, nn.MultiheadAttention, nn.RNNBase, nn.Bilinear)
    inside = {id(child) for _, m in modules(model) if isinstance(m, nn.MultiheadAttention) for child in m.children()}
    left: dict[str, str] = {}
    heads = output_heads(model)
    for name, module in modules(model):
        reason = why_not(module)
        if reason and (isinstance(module, kinds) or "Linear" in type(module).__name__) and id(module) not in inside:
            left[name] = reason
        elif not reason and name not in heads and (other := shared_with(model, module)) is not None:
            left[name] = f"{other} has its weight too, and would not follow"
    return left


def _left(model: nn.Module) -> str:
    """What `left_out` says, each reason once; blocks of a model that differ by a number alone are one pattern."""
    grouped: dict[str, list[str]] = {}
    for name, reason in left_out(model).items():
        grouped.setdefault(reason, []).append(name)
    return "".join(f"; {_together(names)} left out: {reason}" for reason, names in grouped.items())


def _together(names: Sequence[str]) -> str:
    """The names and `is` or `are`: those of numbered modules, if several, as the pattern that matches them."""
    patterns = [re.sub(r"\b\d+\.", "*.", name) for name in names]
    shown = [p if patterns.count(p) > 1 else name for name, p in zip(names, patterns, strict=True)]
    return f"{', '.join(dict.fromkeys(shown))} {'is' if len(names) == 1 else 'are'}"


def warn_of_left_out(model: nn.Module, name: str) -> None:
    """Say which layers the method, which chose its layers itself, leaves as they are, and why."""
    method = METHODS[name]
    if not method.in_place and (left := _left(model)):
        warnings.warn(f"{name}: {left[2:]}", LeftOutWarning, stacklevel=3)
