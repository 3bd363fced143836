"""How the run of a stage is made: load, train, measure, write.

with open_session(store, data_dir, config, emit) as session:
    run, cached = perform(stage, session=session)
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Generator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from lorabench import checkpoint, data, evaluate, events, memory, methods, spectrum, train
from lorabench.classifier import parameter_count
from lorabench.errors import RunFailedError
from lorabench.model import SimpleMnistClassifier, seeded
from lorabench.runner import stages
from lorabench.runner.measure import adapter_origin, apply_method, load_model, measure, test_sets
from lorabench.runner.session import Session
from lorabench.runner.stages import Stage
from lorabench.runs import Cost, Folder, Params, Run

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn


PROBE = 1_000
"""F-MNIST test images on which a fresh method's logits are compared with the base's."""


def perform(
    stage: Stage,
    *,
    session: Session,
    force: bool = False,
    wait: bool = True,
    tensors: Mapping[str, Tensor] | None = None,
    command: str | None = None,
) -> tuple[Run, bool]:
    """Make the run of `stage`, or take the finished one that is there. Its base must be there.

    Args:
        stage, session: what is to be made, and where.
        force: make it even if it is there.
        wait: for another process that makes it.
        tensors: of a base or a fine-tune, what was trained elsewhere, by name; None to train here.
        command: what a user types to make it; None for the stage's own.

    Returns:
        The run, and whether it was there already.

    Raises:
        LockedError: another live process makes this very run, and `wait` is false.
        RunFailedError: the run could not be finished; its record says why.
        InputError: a parent or the data is missing or damaged.
    """
    store = session.store
    stage = stages.placed(stage, store)
    with store.locked(stage.id, wait=wait, on_wait=lambda text: session.emit(events.Message(text, stage.id))):
        if not force and (run := stages.cached(stage, store)):
            session.emit(events.Finished(stage.id, cached=True))
            return run, True
        session.emit(events.Started(stage.id, stage.epochs))
        began = time.perf_counter()
        record = stage.new_record.model_copy(update={"env": session.environment()})
        settings = stage.config_text(store.path(stage.id), command, device=session.device.type, threads=session.threads)
        with store.start(record, settings) as folder, _memory():
            made = _MAKERS[stage.kind](stage, session, folder, tensors)
            if cost := cast("Cost | None", made.get("cost")):
                made["cost"] = cost.model_copy(update={"wall_s": time.perf_counter() - began})
            folder.finish(record.model_copy(update={"started": folder.run.started, **made}))
        session.emit(events.Finished(stage.id, cached=False))
        return folder.run, False


@contextlib.contextmanager
def _memory() -> Generator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise RunFailedError(f"out of memory: {error or 'the system gave no more'}") from error


def _make_fmnist(stage: Stage, session: Session, folder: Folder, tensors: object) -> dict[str, Any]:
    mnist, flips = session.fmnist_of(stage.config)
    folder.write("flips.npz", _npz(train=flips.train, test=flips.test))
    return {"checks": data.class_counts(mnist, flips)}


def _make_pretrain(
    stage: Stage, session: Session, folder: Folder, tensors: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    mnist, flips = session.fmnist_of(stage.config)
    with seeded(stage.seed):
        model = SimpleMnistClassifier().to(session.device)
    counted = methods.count(model)
    if counted.trainable != parameter_count():
        raise AssertionError(f"{counted.trainable} parameters; the formula says {parameter_count()}")
    cost = None
    if tensors is None:
        cost = _train(model, mnist.train_images, stage, session, folder)
    else:
        checkpoint.restore(model, tensors)
    tensors = checkpoint.trained(model)
    written = checkpoint.encode(tensors, {"run": stage.id})
    folder.write("model.safetensors", written)
    metrics, predicted = measure(model, mnist, flips, session)
    folder.write("predictions.npz", _npz(labels=mnist.test_labels, **predicted))
    return {
        "params": Params(**counted._asdict()),
        "checkpoint_bytes": len(written),
        "metrics": metrics,
        "checks": {"base_sha256": checkpoint.tensor_hash(tensors)},
        "cost": cost,
    }


def _make_finetune(
    stage: Stage, session: Session, folder: Folder, tensors: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    mnist, flips = session.fmnist_of(stage.config)
    base = session.store.steady(str(stage.parents.base), lambda run: load_model(run, session.store)).to(session.device)
    probe = test_sets(mnist, flips, session)["fmnist"][:PROBE]
    finetune = stage.config.finetune
    method, options = finetune.method, finetune.options
    origin = adapter_origin(finetune, str(stage.parents.base), base)
    base_and_images = origin["base_sha256"], stage.parents.data
    if base_and_images not in session.measured:
        session.measured.clear()
        session.measured[base_and_images] = *measure(base, mnist, flips, session), evaluate.predict(base, probe)
    before, predicted_before, logits = session.measured[base_and_images]
    layers = methods.linear_layers(base)
    shapes = [layers[name] for name in methods.targeted(base, method, finetune.targets, **options)]
    for warning in methods.warnings(shapes, options, method):
        session.emit(events.Message(warning, stage.id))

    expected = methods.METHODS[method].trainable(shapes, options)
    weights = spectrum.copy(base)
    model = apply_method(base, finetune)
    counted = methods.count(model)
    if counted.trainable != expected:
        raise AssertionError(f"{stage.method} trains {counted.trainable} parameters; its formula says {expected}")
    cost, checks = None, dict[str, Any]()
    if tensors is None:
        birth = (evaluate.predict(model, probe) - logits).abs().max().item()
        frozen = checkpoint.frozen_hash(model)
        cost = _train(model, flips.apply(mnist.train_images, flips.train), stage, session, folder)
        if checkpoint.frozen_hash(model) != frozen:
            raise AssertionError(f"{stage.method} changed weights that it calls frozen")
        checks = {"max_logit_change_at_birth": birth, "frozen_unchanged": True}
    else:
        checkpoint.restore(model, tensors)

    written = checkpoint.encode(checkpoint.trained(model), {"run": stage.id, **origin})
    folder.write("adapter.safetensors", written)
    metrics, predicted = measure(model, mnist, flips, session)
    if metrics["fmnist"].correct < before["fmnist"].correct:
        after, base_accuracy = (f"{100 * of['fmnist'].accuracy:.2f}%" for of in (metrics, before))
        text = f"F-MNIST {after}, below the {base_accuracy} of its base: it has repaired nothing; is lr too large?"
        session.emit(events.Message(text, stage.id))
    predicted |= {f"before_{name}": digits for name, digits in predicted_before.items()}
    folder.write("predictions.npz", _npz(labels=mnist.test_labels, **predicted))
    return {
        "params": Params(**counted._asdict()),
        "checkpoint_bytes": len(written),
        "metrics": metrics,
        "before": before,
        "checks": {
            **checks,
            "base_sha256": origin["base_sha256"],
            **_change(model, weights, method, options),
        },
        "cost": cost,
    }


def _change(model: nn.Module, weights: dict[str, Tensor], method: str, options: dict[str, Any]) -> dict[str, Any]:
    """The spectra of ΔW by layer, or why there are none."""
    if exempt := methods.METHODS[method].exemption("merge", options):
        return {"delta_w_skipped": exempt.reason}
    layers = spectrum.delta_w(weights, methods.merge(model))
    return {"delta_w": {name: layer._asdict() for name, layer in layers.items()}}


_MAKERS = {"fmnist": _make_fmnist, "pretrain": _make_pretrain, "finetune": _make_finetune}


def _train(model: nn.Module, images: npt.NDArray[np.uint8], stage: Stage, session: Session, folder: Folder) -> Cost:
    keys = ("epochs", "batch_size", "lr", "warmup")
    recipe = train.Recipe(**{key: stage.settings[key] for key in keys})
    x, y = session.tensor(images), session.tensor(session.mnist(stage.config).train_labels).long()
    # Steps through frozen layers are too short to gain by a second thread (runs/README.md).
    most_threads = session.threads if all(parameter.requires_grad for parameter in model.parameters()) else 1
    lines: list[str] = []

    def on_epoch(epoch: train.Epoch) -> None:
        lines.append(json.dumps(asdict(epoch)) + "\n")
        session.emit(events.EpochDone(stage.id, epoch.epoch, recipe.epochs, epoch.loss, epoch.accuracy, epoch.seconds))

    before = memory.watch()
    try:
        history = train.fit(
            model, x, y, recipe, seed=stage.seed, reuse=stage.config.reuse, most_threads=most_threads, on_epoch=on_epoch
        )
    finally:
        folder.write("history.jsonl", "".join(lines).encode())
    seconds = sum(epoch.seconds for epoch in history)
    steps = recipe.epochs * train.steps_per_epoch(len(x), recipe)
    return Cost(
        train_s=seconds,
        wall_s=seconds,
        steps=steps,
        step_ms=1000 * seconds / steps,
        images_per_s=steps * min(recipe.batch_size, len(x)) / seconds,
        peak_rss_bytes=None if before is None else memory.peak(),
        rss_before_bytes=before,
    )


def _npz(**arrays: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
