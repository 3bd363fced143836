"""What each stage does once it is really run: load, train, measure, write.

with open_session(store, data_dir, config, emit) as session:
    run, cached = perform(stage, session=session)
"""

from __future__ import annotations

import contextlib
import io
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from lorabench import checkpoint, data, evaluate, events, memory, methods, spectrum, train
from lorabench.classifier import parameter_count
from lorabench.errors import RunFailedError
from lorabench.model import SimpleMnistClassifier, seeded
from lorabench.runner import environment, stages
from lorabench.runner.load import adapter_origin, apply_settings, layer_shapes, load_model, method_options, own_config
from lorabench.runner.session import Session, unit
from lorabench.runs import Cost, Metrics, Params, Run

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import numpy.typing as npt
    from torch import Tensor, nn

    from lorabench.data import Mnist, Shifted
    from lorabench.runner.stages import Stage
    from lorabench.runs import Folder


LARGEST_LOSS = 1e15
"""A mean cross-entropy (nats) that a record takes; a model with more has diverged in its last step."""
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
        stage: what is to be made.
        session: where.
        force: make it even if it is there.
        wait: for another process that makes it.
        tensors: of a fine-tune, what was trained elsewhere, by name; None to train here.
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
        # The version as a plain string: torch's own would have the driver of workers import torch to unpickle it.
        env = environment.describe(session.device.type, session.threads, str(torch.__version__), unit(session.device))
        record = stage.new_record.model_copy(update={"env": env})
        settings = stage.config_text(store.path(stage.id), command, device=session.device.type, threads=session.threads)
        with store.start(record, settings) as folder, _memory():
            if tensors is None:
                found = _MAKERS[stage.kind](stage, session, folder)
            else:
                found = _make_finetune(stage, session, folder, tensors)
            if cost := cast("Cost | None", found.get("cost")):
                found["cost"] = cost.model_copy(update={"wall_s": time.perf_counter() - began})
            folder.finish(record.model_copy(update={"started": folder.run.started, **found}))
        session.emit(events.Finished(stage.id, cached=False))
        return folder.run, False


@contextlib.contextmanager
def _memory() -> Generator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise RunFailedError(f"out of memory: {error or 'the system gave no more'}") from error


def _make_fmnist(stage: Stage, session: Session, folder: Folder) -> dict[str, Any]:
    mnist, flips = session.fmnist_of(stage.config)
    folder.write("flips.npz", _npz(train=flips.train, test=flips.test))
    return {"checks": data.class_counts(mnist, flips)}


def _make_pretrain(stage: Stage, session: Session, folder: Folder) -> dict[str, Any]:
    mnist, flips = session.fmnist_of(stage.config)
    with seeded(stage.seed):
        model = SimpleMnistClassifier().to(session.device)
    counted = methods.count(model)
    if counted.trainable != parameter_count():
        raise AssertionError(f"{counted.trainable} parameters; the formula says {parameter_count()}")
    cost = _train(model, mnist.train_images, stage, session, folder)
    tensors = checkpoint.trained(model)
    written = checkpoint.encode(tensors, {"run": stage.id})
    folder.write("model.safetensors", written)
    metrics, predicted = _measure(model, mnist, flips, session)
    folder.write("predictions.npz", _npz(labels=mnist.test_labels, **predicted))
    return {
        "params": Params(**counted._asdict()),
        "checkpoint_bytes": len(written),
        "metrics": metrics,
        "checks": {"base_sha256": checkpoint.tensor_hash(tensors)},
        "cost": cost,
    }


def _make_finetune(
    stage: Stage, session: Session, folder: Folder, tensors: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    mnist, flips = session.fmnist_of(stage.config)
    base = load_model(session.store.load(str(stage.parents.base)), session.store).to(session.device)
    before, predicted_before = _measure(base, mnist, flips, session)
    probe = test_sets(mnist, flips, session)["fmnist"][:PROBE]
    logits = evaluate.predict(base, probe)
    origin = adapter_origin(stage.settings, str(stage.parents.base), base)
    method, shapes, options = (
        stage.settings["method"],
        layer_shapes(base, stage.settings),
        method_options(stage.settings),
    )
    for warning in methods.warnings(shapes, options, method):
        session.emit(events.Message(warning, stage.id))

    expected = methods.formula(method, shapes, options)
    weights = spectrum.copy(base)
    model = apply_settings(base, stage.settings)
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
    metrics, predicted = _measure(model, mnist, flips, session)
    if metrics["fmnist"].correct < before["fmnist"].correct:
        shares = (f"{100 * found['fmnist'].accuracy:.2f}%" for found in (metrics, before))
        told = "F-MNIST {}, below the {} of its base: it has repaired nothing; is lr too large?".format(*shares)
        session.emit(events.Message(told, stage.id))
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
    if exempt := methods.exemption(method, "merge", options):
        return {"delta_w_skipped": exempt.reason}
    found = spectrum.delta_w(weights, methods.merge(model))
    return {"delta_w": {name: layer._asdict() for name, layer in found.items()}}


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


def test_sets(mnist: Mnist, flips: Shifted, session: Session) -> dict[str, Tensor]:
    """The two test sets (n, 28, 28) on the device: `mnist`, and `fmnist` with its changed images."""
    images = mnist.test_images
    return {"mnist": session.tensor(images), "fmnist": session.tensor(flips.apply(images, flips.test))}


def _measure(
    model: nn.Module, mnist: Mnist, flips: Shifted, session: Session
) -> tuple[dict[str, Metrics], dict[str, npt.NDArray[np.uint8]]]:
    """Metrics and predicted digits of `model` on both test sets."""
    labels = session.tensor(mnist.test_labels).long()
    slices = {name: torch.from_numpy(mask).to(session.device) for name, mask in data.slices(mnist, flips).items()}
    metrics: dict[str, Metrics] = {}
    predicted: dict[str, npt.NDArray[np.uint8]] = {}
    for name, images in test_sets(mnist, flips, session).items():
        logits = evaluate.predict(model, images)
        found = evaluate.measure(logits, labels, slices if name == "fmnist" else None)
        if not found["loss"] < LARGEST_LOSS:
            raise RunFailedError(f"the loss on {name} became {found['loss']:.3g}; is lr too large?")
        metrics[name] = Metrics.model_validate(found)
        predicted[name] = logits.argmax(1).cpu().numpy().astype(np.uint8)
    return metrics, predicted


def measure_again(run: Run, session: Session, on: Stage | None = None) -> Run:
    """The run with the metrics that its checkpoint gives here and now, on the data that it was made with.

    Args:
        run: finished, with a model.
        session: where.
        on: the stage of another F-MNIST to measure it on; its id is then what the record says.

    Raises:
        InputError: as `load_model`; or its config cannot be read.
    """
    model, mnist, flips = _opened(run, session)
    if on:
        mnist, flips = session.fmnist_of(on.config)
        run = run.model_copy(update={"parents": run.parents.model_copy(update={"data": on.id})})
    metrics, _ = _measure(model, mnist, flips, session)
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


def _npz(**arrays: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
