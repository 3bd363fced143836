"""A PEFT folder becomes a finished run: `lorabench import-peft DIR --base RUN`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import torch

from lorabench import checkpoint, config, evaluate, methods
from lorabench.errors import InputError
from lorabench.exchange import peft_format
from lorabench.runner import make
from lorabench.runner.load import IMPORTED, apply_method, load_model, own_config
from lorabench.runner.stages import Stage, fmnist
from lorabench.runs import Parents, make_id

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from lorabench.runner.session import Session
    from lorabench.runs import Run, Store


def import_adapter(
    folder: Path, base: Run, session: Session, *, force: bool = False, wait: bool = True
) -> tuple[Run, bool]:
    """Make a run of the adapter in `folder`, as if it had been trained here on `base`.

    Args:
        folder: as PEFT's `save_pretrained` writes it.
        base: a pretrained run.
        session: where.
        force: make the run even if it is there.
        wait: for another process that makes it.

    Returns:
        The run, and whether it was there already.

    Raises:
        InputError: as `plan`; or the logits overflow.
        LockedError, RunFailedError: as `make.perform`.
    """
    stage, tensors = plan(folder, base, session.store)
    tuned = apply_method(load_model(base, session.store), stage.config.finetune)
    checkpoint.restore(tuned, tensors)
    for images in make.test_sets(*session.fmnist_of(stage.config), session).values():
        if not torch.isfinite(evaluate.predict(tuned.to(session.device), images)).all():
            raise InputError(f"{folder}: on {base.id} this adapter gives logits that are not finite numbers")
    command = f"lorabench import-peft {shlex.quote(str(folder))} --base {base.id}"
    return make.perform(stage, session=session, force=force, wait=wait, tensors=tensors, command=command)


def plan(folder: Path, base: Run, store: Store) -> tuple[Stage, dict[str, Tensor]]:
    """The run that the adapter in `folder` becomes on `base`, and its tensors.

    Its id is made of the base, the data, and the adapter's settings and tensors: the same adapter is the same run.

    Raises:
        InputError: `base` is no pretrained run, or is damaged; or as `peft_format.read`.
    """
    if base.stage != "pretrain":
        raise InputError(f"{base.id} is no base: its stage is {base.stage}, it must be pretrain")
    layers = methods.linear_layers(load_model(base, store))
    adapter = peft_format.read(folder, layers)
    own = own_config(base, store)
    finetune: config.Finetune = config.Finetune.parse(
        {
            "method": adapter.method,
            "targets": None if adapter.targets == tuple(layers) else adapter.targets,
            "seed": base.seed,
            **adapter.options,
        }
    )
    known = {"method", "targets", "seed", *finetune.options}
    settings: dict[str, Any] = {key: value for key, value in config.hashed(finetune).items() if key in known}
    settings[IMPORTED] = checkpoint.tensor_hash(adapter.tensors)
    inputs = {"stage": "import-peft", "settings": settings}
    label, images = f"peft-{adapter.method}-k{adapter.k}", base.parents.data or fmnist(own).id
    stage = Stage(
        kind="finetune",
        id=make_id(label, base.seed, inputs, base=base.id, data=images),
        seed=base.seed,
        settings=settings,
        parents=Parents(base=base.id, data=images),
        config=own.model_copy(update={"finetune": finetune}),
        method=adapter.method,
        k=adapter.k,
    )
    return stage, adapter.tensors
