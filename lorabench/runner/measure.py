"""A run back as a model, each file checked on the way; and a model on the two test sets, MNIST's and F-MNIST's.

model = load_model(run, store)
metrics, predicted = measure(model, mnist, flips, session)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch

from lorabench import checkpoint, config, data, evaluate, methods
from lorabench.data import Mnist, Shifted
from lorabench.errors import ConfigError, InputError, RunFailedError
from lorabench.model import SimpleMnistClassifier, seeded
from lorabench.runner.session import Session
from lorabench.runner.stages import Stage
from lorabench.runs import IMPORTED, Metrics, Run, Store

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

LARGEST_LOSS = 1e15
"""A mean cross-entropy (nats) that a record takes; a model with more has diverged in its last step."""


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


def test_sets(mnist: Mnist, flips: Shifted, session: Session) -> dict[str, Tensor]:
    """The two test sets (n, 28, 28) on the device: `mnist`, and `fmnist` with its changed images."""
    images = mnist.test_images
    return {"mnist": session.tensor(images), "fmnist": session.tensor(flips.apply(images, flips.test))}


def measure(
    model: nn.Module, mnist: Mnist, flips: Shifted, session: Session
) -> tuple[dict[str, Metrics], dict[str, npt.NDArray[np.uint8]]]:
    """Metrics and predicted digits (n,) of `model` on both test sets.

    Raises:
        RunFailedError: its loss is more than a record takes.
    """
    labels = session.tensor(mnist.test_labels).long()
    slices = {name: torch.from_numpy(mask).to(session.device) for name, mask in data.slices(mnist, flips).items()}
    metrics: dict[str, Metrics] = {}
    predicted: dict[str, npt.NDArray[np.uint8]] = {}
    for name, images in test_sets(mnist, flips, session).items():
        logits = evaluate.predict(model, images)
        measured = evaluate.measure(logits, labels, slices if name == "fmnist" else None)
        if not measured["loss"] < LARGEST_LOSS:
            raise RunFailedError(f"the loss on {name} became {measured['loss']:.3g}; is lr too large?")
        metrics[name] = Metrics.model_validate(measured)
        predicted[name] = logits.argmax(1).cpu().numpy().astype(np.uint8)
    return metrics, predicted


def measure_again(run: Run, session: Session, on: Stage | None = None) -> Run:
    """The run with the metrics that its checkpoint gives here and now, on the data that it was made with.

    With `on`, the stage of another F-MNIST, on that; its id is then what the record says.

    Raises:
        InputError: as `load_model`; or its config cannot be read.
    """
    model, mnist, flips = _opened(run, session)
    if on:
        mnist, flips = session.fmnist_of(on.config)
        run = run.model_copy(update={"parents": run.parents.model_copy(update={"data": on.id})})
    metrics, _ = measure(model, mnist, flips, session)
    return run.model_copy(update={"metrics": metrics})


def mistakes(run: Run, session: Session) -> list[evaluate.Mistake]:
    """The F-MNIST test images that the run's model gets wrong, the most confident first.

    Raises:
        InputError: as `measure_again`.
    """
    model, mnist, flips = _opened(run, session)
    images = flips.apply(mnist.test_images, flips.test)
    logits = evaluate.predict(model, session.tensor(images))
    return evaluate.mistakes(logits, mnist.test_labels, images, flips.test)


def _opened(run: Run, session: Session) -> tuple[nn.Module, Mnist, Shifted]:
    """A run's model on the device, and the data that the run was made with."""
    model = load_model(run, session.store).to(session.device)
    return model, *session.fmnist_of(own_config(run, session.store))
