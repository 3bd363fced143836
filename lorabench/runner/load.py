"""A run back as a model, each file checked on the way.

model = load_model(run, store)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lorabench import checkpoint, config, methods
from lorabench.errors import ConfigError, InputError
from lorabench.model import SimpleMnistClassifier, seeded
from lorabench.runs import IMPORTED, Run, Store

if TYPE_CHECKING:
    from torch import nn


def own_config(run: Run, store: Store) -> config.Config:
    """The configuration that the run was made with.

    Raises:
        InputError: its file is missing or damaged.
    """
    return config.load([store.intact(run, "config.yaml")]).config


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
    finetune, base = finetune_of(run, store), load_base(run, store)
    origin = adapter_origin(finetune, str(run.parents.base), base)
    model = apply_method(base, finetune)
    path = store.intact(run, "adapter.safetensors")
    checkpoint.restore(model, checkpoint.decode(path, checkpoint.trained(model), origin))
    return model


def finetune_of(run: Run, store: Store) -> config.Finetune:
    """What the record of a fine-tuned run says of its method and how it was trained.

    Raises:
        InputError: there is no such method, or it has other settings.
    """
    flags = {f"finetune.{key}": value for key, value in run.settings.items() if key != IMPORTED}
    try:
        finetune = config.load(flags=flags).config.finetune
    except ConfigError as error:
        raise InputError(f"{store.path(run.id)}: settings that no run has: {error.problems[0]}") from error
    # What came later and stands at its default is in no record.
    needed = {"method", "targets", "seed", *finetune.options} & config.hashed(finetune).keys()
    if missing := needed - run.settings.keys():
        raise InputError(f"{store.path(run.id)}: the record does not say its {min(missing)}")
    return finetune


def adapter_origin(finetune: config.Finetune, base_id: str, base: nn.Module) -> dict[str, str]:
    """What an adapter's header says of where it belongs."""
    said = {key: value for key, value in config.hashed(finetune).items() if key in ("targets", *finetune.options)}
    tensors = checkpoint.tensor_hash(base.state_dict())
    options = json.dumps(said, sort_keys=True)
    return {"base": base_id, "base_sha256": tensors, "method": finetune.method, "options": options}


def apply_method(model: nn.Module, finetune: config.Finetune) -> nn.Module:
    """`model` with the method of `finetune` put on it, in place, as it is at birth."""
    with seeded(finetune.seed or 0):
        methods.apply(model, finetune.method, targets=finetune.targets, **finetune.options)
    return model
