"""A run as a folder for Hugging Face's PEFT, which loads it onto any module with layers of these names and shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from lorabench import checkpoint, methods
from lorabench.errors import UsageError
from lorabench.exchange import peft_format
from lorabench.exchange.verify import compare
from lorabench.runner.load import apply_method, finetune_of, load_base, load_model
from lorabench.runs import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lorabench.exchange import Same
    from lorabench.runner.session import Session
    from lorabench.runs import Run

KINDS: dict[str, Literal["lora", "rslora", "dora"]] = {
    "lora": "lora",
    "rslora": "rslora",
    "lora-plus": "lora",
    "lora-fa": "lora",
    "dora": "dora",
    "pissa": "lora",
    "olora": "lora",
}
"""The methods whose result is a LoRA adapter, and the kind that PEFT is told."""

_FROM_WEIGHTS = {"pissa", "olora"}
"""Their frozen part is not W0. On W0, ΔW = (AB)ᵀ - (A'B')ᵀ, where A' and B' are the untrained: a LoRA of rank 2k."""


def check(run: Run) -> None:
    """Refuse, by a UsageError, a run that is no LoRA."""
    if run.method not in KINDS:
        origin = f"the method {run.method}" if run.method else f"a run of the stage {run.stage}"
        raise UsageError(f"{run.id}: {origin} is no LoRA; to PEFT go {', '.join(KINDS)}")


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
    names = [f"{target}.{own}" for target in targets for own in ("A", "B", *(["g"] if kind == "dora" else []))]
    tensors = {name: model.get_parameter(name).detach() for name in names}
    k, alpha = int(run.settings["k"]), run.settings.get("alpha")
    if run.method in _FROM_WEIGHTS:
        untrained = apply_method(base, finetune_of(run, session.store))
        for name in names:
            first = untrained.get_parameter(name).detach()
            tensors[name] = (
                torch.cat([tensors[name], -first], 1) if name.endswith(".A") else torch.cat([tensors[name], first])
            )
        k *= 2
    return peft_format.Adapter(kind, k, float(k if alpha is None else alpha), targets, tensors)
