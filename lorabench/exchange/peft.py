"""A run as a folder for Hugging Face's PEFT, and such a folder as a finished run.

PEFT loads the folder onto any module with layers of these names and shapes. `lorabench import-peft DIR --base RUN`
takes what PEFT's `save_pretrained` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lorabench import checkpoint, config, evaluate, methods
from lorabench.errors import InputError, UsageError, quoted
from lorabench.exchange import Same, peft_format, peft_types
from lorabench.exchange.merged import compare
from lorabench.runner import make
from lorabench.runner.measure import apply_method, finetune_of, load_base, load_model, own_config, test_sets
from lorabench.runner.session import Session
from lorabench.runner.stages import Stage, fmnist
from lorabench.runs import IMPORTED, Parents, Run, Store, make_id, write_atomic

if TYPE_CHECKING:
    from torch import Tensor, nn

KINDS = {method: method for method in peft_format.METHODS} | dict.fromkeys(
    ("vera", "lora-plus", "lora-fa", "pissa", "olora"), "lora"
)
"""The methods that PEFT has, and which of them what each has trained is.

VeRA is the LoRA that it computes: of a folder of its own type PEFT before 0.21 draws the frozen half again.
"""

_FROM_WEIGHTS = {"pissa", "olora"}
"""Their frozen part is not W0. On W0, ΔW = (AB)ᵀ - (A'B')ᵀ, where A' and B' are the untrained: a LoRA of rank 2k."""


def check(run: Run) -> None:
    """Refuse, by a UsageError, a run of a method that is not written as PEFT has it."""
    if run.method not in KINDS:
        origin = f"the method {run.method}" if run.method else f"a run of the stage {run.stage}"
        raise UsageError(f"{run.id}: {origin} does not go to PEFT; to it go {', '.join(KINDS)}")


def write(runs: Sequence[Run], folder: Path, session: Session) -> list[Same]:
    """Write the adapter of the one run of `runs`, read it again onto the base, compare.

    Raises:
        InputError: as `load_model`.
        RunFailedError: as `compare`.
    """
    (run,) = runs
    for name, content in peft_format.encode(_adapter(run, session)).items():
        write_atomic(folder / name, content)
    base = load_base(run, session.store)
    adapter = peft_format.read(folder, methods.linear_layers(base))
    methods.apply(base, adapter.method, targets=adapter.targets, **adapter.options)
    checkpoint.restore(base, adapter.tensors)
    return compare(run, base, session)


def _adapter(run: Run, session: Session) -> peft_format.Adapter:
    kind = KINDS[str(run.method)]
    model, base = load_model(run, session.store), load_base(run, session.store)
    targets = tuple(run.settings["targets"] or methods.linear_layers(base))
    parts = dict.fromkeys(part.ours for part in peft_types.TYPES[peft_format.METHODS[kind]].PARTS)
    names = [f"{target}.{own}" for target in targets for own in parts if hasattr(model.get_submodule(target), own)]
    tensors = {name: _factor(model, name) for name in names}
    options: dict[str, Any] = {name: run.settings.get(name) for name in methods.METHODS[kind].options}
    if run.method in _FROM_WEIGHTS:
        untrained = apply_method(base, finetune_of(run, session.store))
        for name in names:
            first = _factor(untrained, name)
            tensors[name] = (
                torch.cat([tensors[name], -first], 1) if name.endswith(".A") else torch.cat([tensors[name], first])
            )
        options["k"] *= 2
    if "alpha" in options:
        options["alpha"] = float(options["k"] if options["alpha"] is None else options["alpha"])
    return peft_format.Adapter(kind, options, targets, tensors)


def _factor(model: nn.Module, name: str) -> Tensor:
    """A (n, k), B (k, m) or another tensor of a layer, by its dotted name."""
    layer, _, own = name.rpartition(".")
    return getattr(model.get_submodule(layer), own).detach()


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
    for images in test_sets(*session.fmnist_of(stage.config), session).values():
        if not torch.isfinite(evaluate.predict(tuned.to(session.device), images)).all():
            raise InputError(f"{folder}: on {base.id} this adapter gives logits that are not finite numbers")
    command = f"lorabench import-peft {quoted(folder)} --base {base.id}"
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
    k = adapter.options.get("k")
    label, images = f"peft-{adapter.method}" + (f"-k{k}" if k else ""), base.parents.data or fmnist(own).id
    stage = Stage(
        kind="finetune",
        id=make_id(label, base.seed, inputs, base=base.id, data=images),
        seed=base.seed,
        settings=settings,
        parents=Parents(base=base.id, data=images),
        config=own.model_copy(update={"finetune": finetune}),
        method=adapter.method,
        k=k,
    )
    return stage, adapter.tensors
