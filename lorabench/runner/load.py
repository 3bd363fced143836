"""A run back as a model, each file checked on the way.

model = load_model(run, store)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from lorabench import checkpoint, config, methods
from lorabench.errors import ConfigError, InputError
from lorabench.model import SimpleMnistClassifier, seeded

if TYPE_CHECKING:
    from torch import nn

    from lorabench.runs import Run, Store

IMPORTED = "tensors_sha256"
"""The setting that a run has in place of a recipe if it was trained elsewhere: the hash of what was brought."""


def own_config(run: Run, store: Store) -> config.Config:
    """The configuration that the run was made with.

    Raises:
        InputError: its file is missing or damaged.
    """
    return config.load([store.intact(run, "config.yaml")], methods=methods.schemas()).config


def load_base(run: Run, store: Store) -> nn.Module:
    """The model that a fine-tuned run started from, on the CPU.

    Raises:
        InputError: as `load_model`.
    """
    base = store.load(str(run.parents.base))
    if base.stage != "pretrain":
        raise InputError(f"{store.path(run.id)}: {base.id} is no base: its stage is {base.stage}")
    return load_model(base, store)


def load_model(run: Run, store: Store) -> nn.Module:
    """The model of a finished run, on the CPU: the base, or the base with its method applied and trained.

    Raises:
        InputError: the run has no model, or a file is missing, damaged, edited, or made for another base.
    """
    if run.status != "done" or run.stage == "fmnist":
        raise InputError(f"{run.id} holds no model: its stage is {run.stage}, its status {run.status}")
    if run.stage == "pretrain":
        model: nn.Module = SimpleMnistClassifier()
        tensors = checkpoint.decode(store.intact(run, "model.safetensors"), checkpoint.trained(model), {})
        checkpoint.restore(model, tensors)
        return model
    _check_settings(run, store)
    base = load_base(run, store)
    origin = adapter_origin(run.settings, str(run.parents.base), base)
    model = apply_settings(base, run.settings)
    path = store.intact(run, "adapter.safetensors")
    checkpoint.restore(model, checkpoint.decode(path, checkpoint.trained(model), origin))
    return model


def _check_settings(run: Run, store: Store) -> None:
    """Hold what a record says of its method against what that method takes."""
    flags = {f"finetune.{key}": value for key, value in run.settings.items() if key != IMPORTED}
    try:
        known = config.load(flags=flags, methods=methods.schemas()).config.finetune
    except ConfigError as error:
        raise InputError(f"{store.path(run.id)}: settings that no run has: {error.problems[0]}") from error
    early = {
        name
        for name, field in methods.options_model(known.method).model_fields.items()
        if not methods.came_later(field)
    }
    if missing := {"method", "targets", "seed", *early} - run.settings.keys():
        raise InputError(f"{store.path(run.id)}: the record does not say its {min(missing)}")


def adapter_origin(settings: dict[str, Any], base_id: str, base: nn.Module) -> dict[str, str]:
    """What an adapter's header says of where it belongs."""
    own = {key: settings[key] for key in methods.METHODS[settings["method"]].options if key in settings}
    options = json.dumps({"targets": settings["targets"], **own}, sort_keys=True)
    tensors = checkpoint.tensor_hash(base.state_dict())
    return {"base": base_id, "base_sha256": tensors, "method": settings["method"], "options": options}


def method_options(settings: dict[str, Any]) -> dict[str, Any]:
    """The method's own settings, complete: a record leaves out what came later and stood at its default."""
    fields = methods.options_model(settings["method"]).model_fields
    return {key: settings.get(key, field.default) for key, field in fields.items()}


def layer_shapes(model: nn.Module, settings: dict[str, Any]) -> list[tuple[int, int]]:
    """(inputs, outputs) of each layer of `model` that the method of `settings` wraps."""
    layers = methods.linear_layers(model)
    names = methods.targeted(model, settings["method"], settings["targets"], **method_options(settings))
    return [layers[name] for name in names]


def apply_settings(model: nn.Module, settings: dict[str, Any]) -> nn.Module:
    """`model` with the method of `settings` put on it, in place, as it is at birth."""
    with seeded(settings["seed"]):
        methods.apply(model, settings["method"], targets=settings["targets"], **method_options(settings))
    return model
