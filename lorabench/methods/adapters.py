"""Adapters as files, on any model: saved without the base, loaded onto that base alone, several of them by name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lorabench import checkpoint, files
from lorabench.errors import InputError, UsageError
from lorabench.methods import METHODS, applied, apply, remove
from lorabench.methods.applied import Applied, Place
from lorabench.model import seeded

FORMAT = "1"
MIXTURE = "a mixture"
"""The method, and the name among a model's adapters, of several mixed; it is there only while it is in use."""


def save(model: nn.Module, path: str | Path) -> None:
    """Write the model's adapter to a safetensors file: whatever is not the base.

    That is what the method trains, what it drew or made and does not train, and buffers that training moved. The header
    says the method, its options and targets, and the hash of each of the base's tensors.

    Raises:
        UsageError: no method is in the model, or only in a part of it, or it is disabled here.
        InputError, RunFailedError: as `files.write`.
    """
    path = Path(path)
    root, on = applied.active(model)
    if on is None:
        raise UsageError("no method is applied to this model: there is nothing to save")
    if on.method == MIXTURE:
        raise UsageError("a mixture is not saved: save its adapters, or what methods.merge(model) gives")
    header = {
        "lorabench_adapter": FORMAT,
        "method": on.method,
        "options": json.dumps(on.options, sort_keys=True),
        "targets": json.dumps(on.targets if any(on.targets.values()) else list(on.targets)),
        "also_train": json.dumps(on.also_train),
        "base": json.dumps(_base(root, on)),
        "frozen_sha256": _frozen_hash(root, on),
    }
    content = checkpoint.encode({name: t.cpu().contiguous() for name, t in _tensors(root, on).items()}, header)
    files.write(path, content)


def load(model: nn.Module, path: str | Path, *, name: str | None = None) -> None:
    """Put the adapter of a file of `save` onto the base that it was made for, beside those that are there.

    Args:
        model: the base, plain or with other adapters; the new one is in it afterwards, see `use`.
        path: the file.
        name: by which `use` finds it; None for the file's name without its ending.

    The random generator stays where it is. If this raises, the model is as before.

    Raises:
        InputError: the file is missing or damaged, or was made for another base, or what the method makes of this base
            on this machine is not what it was made of when it was saved.
        UsageError: the name is taken, or the model's method is disabled here.
    """
    path = Path(path)
    name = path.stem if name is None else name
    header, tensors = checkpoint.read(path)
    if header.get("lorabench_adapter") != FORMAT:
        raise InputError(f"{path}: no adapter that methods.save wrote")
    root, on = applied.active(model)
    _, adapters = applied.notes(root)
    if name in adapters:
        raise UsageError(f"the model has an adapter {name!r} already; it has {', '.join(adapters)}")
    _refuse_other_base(path, json.loads(header["base"]), _base(root, on))
    if on:
        on.take_off(root, "off")
    held = applied.lift(root)
    try:
        with seeded(0):
            apply(
                root,
                header["method"],
                targets=json.loads(header["targets"]),
                also_train=json.loads(header["also_train"]),
                **json.loads(header["options"]),
            )
        (new,) = applied.notes(root)[1].values()
        _fill(root, new, tensors, path)
        if _frozen_hash(root, new) != header["frozen_sha256"]:
            raise InputError(f"{path}: what {new.method} freezes comes out otherwise here than where it was saved")
    except BaseException:
        remove(root)
        applied.put_down(root, held)
        if on:
            on.put_back(root)
        raise
    if held:
        new.flags = next(iter(held.values())).flags
    applied.put_down(root, {**held, name: new})


def use(model: nn.Module, name: str | Mapping[str, float] | None, *more: str) -> None:
    """Let the adapter `name` be in the model instead of what is; None for the base alone.

    Several, as `use(model, "a", "b")` or `use(model, {"a": 0.5, "b": 0.5})`, add up: each weight of the base and what
    each adapter changes in it, times 1 or the number given, are summed in float64 and rounded once. The model is then a
    plain one, and trains nothing.

    Raises:
        UsageError: there is no such adapter, or the model's method is disabled here; or adapters do not add up.
    """
    root, on = applied.active(model)
    _, adapters = applied.notes(root)
    weights = dict(name) if isinstance(name, Mapping) else {own: 1.0 for own in (name, *more) if own is not None}
    if unknown := [own for own in weights if own not in adapters or own == MIXTURE]:
        known = ", ".join(own for own in adapters if own != MIXTURE)
        raise UsageError(f"the model has no adapter {unknown[0]!r}; it has {known or 'none'}")
    if on:
        on.take_off(root, "off")
    try:
        mixed = isinstance(name, Mapping) or len(weights) > 1
        new = None if not weights else _mixture(root, adapters, weights) if mixed else adapters[next(iter(weights))]
    except BaseException:
        if on:
            on.put_back(root)
        raise
    if on:
        on.train(False)
    adapters.pop(MIXTURE, None)
    if new:
        new.put_back(root)
        new.train(True)
        if mixed:
            applied.note(root, MIXTURE, new)


def _mixture(root: nn.Module, adapters: Mapping[str, Applied], weights: Mapping[str, float]) -> Applied:
    """What sets each parameter that an adapter changes to the base's and the weighted sum of all changes; it is off."""
    sums: dict[Place, Tensor] = {}
    for name, weight in weights.items():
        for place, change in _changes(name, adapters[name]).items():
            base: Tensor = getattr(*place).detach().double()
            sums[place] = sums.get(place, base) + weight * change.to(base.device)
    places, flags = list(sums), next(iter(adapters.values())).flags
    values = [total.to(getattr(*place).dtype) for place, total in sums.items()]
    return Applied(MIXTURE, {}, {}, [], flags, [], [], places, applied.values(places), values, state="off")


@torch.no_grad()
def _changes(name: str, adapter: Applied) -> dict[Place, Tensor]:
    """What an adapter that is off changes in each parameter of the base, in float64.

    Raises:
        UsageError: its changes do not add up to others', or are not of the base's parameters alone.
    """
    refused = f"the adapter {name!r}, {adapter.method}, cannot be mixed:"
    if exempt := METHODS[adapter.method].exemption("mix", adapter.options):
        raise UsageError(f"{refused} {exempt.reason}")
    changes: dict[Place, Tensor] = {}
    trained = set(adapter.trained)
    for place, found, value in zip(adapter.places, adapter.found, adapter.values, strict=True):
        if place in trained:
            changes[place] = value.double() - found.to(value.device).double()
        elif not torch.equal(value, found.to(value)):
            raise UsageError(f"{refused} training moved {place[1]}, and such values do not add up")
    for wrapper in adapter.wrappers:
        layer = wrapper.inner
        W1, b1 = wrapper.to(layer.weight.device).merged_weight(), wrapper.merged_bias()
        if W1 is None:
            raise UsageError(f"{refused} no linear layer computes what it does")
        changes[layer, "weight"] = wrapper.shaped(W1.double() - wrapper.W0.double())
        if b1 is not None:
            if cast("Tensor | None", layer.bias) is None:
                raise UsageError(f"{refused} it adds a bias to a layer that has none")
            changes[layer, "bias"] = b1.double() - layer.bias.double()
    return changes


def _paths(root: nn.Module) -> dict[nn.Module, str]:
    named = cast("Iterator[tuple[str, nn.Module]]", root.named_modules())
    return {module: f"{name}." if name else "" for name, module in named}


def _tensors(root: nn.Module, on: Applied) -> dict[str, Tensor]:
    """What is not the base, by name: of wrappers all but their layer; of the rest what is trained, and what moved."""
    paths = _paths(root)
    tensors: dict[str, Tensor] = {}
    for wrapper in on.wrappers:
        own = wrapper.state_dict()
        tensors |= {paths[wrapper] + name: t for name, t in own.items() if not name.startswith("inner.")}
    seen: set[int] = set()  # what is tied is one tensor, and is saved once
    for (module, name), before in zip(on.places, on.found, strict=True):
        tensor: Tensor = getattr(module, name)
        moved = (module, name) in on.trained or not torch.equal(tensor, before.to(tensor))
        if moved and id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[paths[module] + name] = tensor.detach()
    return tensors


def _base(root: nn.Module, on: Applied | None) -> dict[str, str]:
    """The hash of each of the base's tensors, by name."""
    if on:
        on.take_off(root, "disabled")
    try:
        return {name: checkpoint.tensor_hash({name: t}) for name, t in root.state_dict().items()}
    finally:
        if on:
            on.put_back(root)


def _frozen_hash(root: nn.Module, on: Applied) -> str:
    """The hash of what the method has added and does not train, saved or made anew."""
    paths = _paths(root)
    frozen: dict[str, Tensor] = {}
    for wrapper in on.wrappers:
        named: dict[str, Any] = {**dict(wrapper.named_parameters()), **dict(wrapper.named_buffers())}
        frozen |= {
            paths[wrapper] + name: t
            for name, t in named.items()
            if not name.startswith("inner.") and not t.requires_grad and name not in wrapper.trained_buffers
        }
    return checkpoint.tensor_hash(frozen)


def _refuse_other_base(path: Path, made_for: dict[str, str], this: dict[str, str]) -> None:
    lacking, more = sorted(made_for.keys() - this.keys()), sorted(this.keys() - made_for.keys())
    other = [name for name in made_for if name in this and made_for[name] != this[name]]
    for names, what in ((lacking, "lacks"), (more, "has besides"), (other, "has other values in")):
        if names:
            rest = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise InputError(f"{path}: made for another base: this model {what} {names[0]}{rest}")


def _fill(root: nn.Module, new: Applied, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a new adapter the tensors of a file, in the types that they have there."""
    paths = _paths(root)
    places = {paths[module] + name: getattr(module, name) for module, name in new.places}
    required = _tensors(root, new)
    expected = {name: t for name, t in {**places, **required}.items() if name in required or name in tensors}
    added = {paths[wrapper]: wrapper for wrapper in new.wrappers}
    typed = {name: t.to(tensors[name].dtype) if name in tensors else t for name, t in expected.items()}
    checkpoint.check(path, tensors, typed)
    with torch.no_grad():
        for prefix, wrapper in added.items():
            own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix) and n not in places}
            device = wrapper.inner.weight.device
            wrapper.load_state_dict({n: t.to(device) for n, t in own.items()}, strict=False, assign=True)
        for name in tensors.keys() & places.keys():
            places[name].copy_(tensors[name])
        for name in tensors.keys() & places.keys():
            if not torch.equal(places[name], tensors[name].to(places[name])):
                raise InputError(f"{path}: {name} is tied to another here, and was not where it was saved")
