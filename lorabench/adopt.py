"""A PEFT folder becomes a finished run: `lorabench import-peft DIR --base RUN`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import torch

from lorabench import checkpoint, config, evaluate, methods, peft_folder, work
from lorabench.errors import InputError
from lorabench.runs import Parents, make_id
from lorabench.stages import Stage, fmnist, hashed

if TYPE_CHECKING:
    from pathlib import Path

    from lorabench.runs import Run
    from lorabench.work import Lab


def adopt(folder: Path, base: Run, lab: Lab, *, force: bool = False, wait: bool = True) -> tuple[Run, bool]:
    """Make a run of the adapter in `folder`, as if it had been trained here on `base`.

    Its id is made of the base, the data, and the adapter's settings and tensors: the same adapter is the same run.

    Args:
        folder: as PEFT's `save_pretrained` writes it.
        base: a pretrained run.
        lab: where.
        force: make the run even if it is there.
        wait: for another process that makes it.

    Returns:
        The run, and whether it was there already.

    Raises:
        InputError: `base` is no pretrained run; as `peft_folder.read`; or the logits overflow.
        LockedError, RunFailedError: as `work.perform`.
    """
    if base.stage != "pretrain":
        raise InputError(f"{base.id} is no base: its stage is {base.stage}, it must be pretrain")
    model = work.load_model(base, lab.store)
    layers = methods.linear_layers(model)
    adapter = peft_folder.read(folder, layers)
    own = work.own_config(base, lab.store)
    finetune = config.Finetune.model_validate(
        {
            "method": adapter.method,
            "targets": None if adapter.targets == tuple(layers) else adapter.targets,
            "seed": base.seed,
            "options": adapter.options,
        }
    )
    settings: dict[str, Any] = {
        **finetune.model_dump(mode="json", include={"method", "targets", "seed"}),
        **hashed(adapter.options, methods.options_model(adapter.method)),
        work.IMPORTED: checkpoint.tensor_hash(adapter.tensors),
    }
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
    tuned = work.apply_settings(model, settings)
    checkpoint.restore(tuned, adapter.tensors)
    mnist = lab.mnist(own)
    for images in work.test_sets(mnist, work.choose_flips(own, mnist), lab).values():
        if not torch.isfinite(evaluate.predict(tuned.to(lab.device), images)).all():
            raise InputError(f"{folder}: on {base.id} this adapter gives logits that are not finite numbers")
    command = f"lorabench import-peft {shlex.quote(str(folder))} --base {base.id}"
    return work.perform(stage, lab=lab, force=force, wait=wait, tensors=adapter.tensors, command=command)
