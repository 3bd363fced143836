"""Anybody's plain 784-256-128-10 classifier as a base: a safetensors file becomes a finished run to start from.

The names may have anything in front, as `module.`, `_orig_mod.` or `model.` have it, and where they are not the
classifier's own (`0.weight`, `layers.2.weight`) the shapes say which layer is which. Half precision becomes float32,
in which it is exact.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lorabench import checkpoint, config, data, evaluate, methods
from lorabench.errors import InputError, quoted
from lorabench.exchange.peft_format import MAX_TENSOR_BYTES, check_file
from lorabench.model import SimpleMnistClassifier
from lorabench.runner import make, stages
from lorabench.runner.measure import test_sets
from lorabench.runner.session import Session
from lorabench.runs import IMPORTED, Parents, Run, make_id

if TYPE_CHECKING:
    from torch import Tensor


def import_base(path: Path, session: Session, *, force: bool = False, wait: bool = True) -> tuple[Run, bool]:
    """Make a run of the classifier in `path`, measured on MNIST and the usual F-MNIST.

    Returns:
        The run, and whether it was there already.

    Raises:
        InputError: as `plan`; or the logits overflow.
        LockedError, RunFailedError: as `make.perform`.
    """
    stage, tensors = plan(path)
    model = SimpleMnistClassifier()
    checkpoint.restore(model, tensors)
    for images in test_sets(*session.fmnist_of(stage.config), session).values():
        if not torch.isfinite(evaluate.predict(model.to(session.device), images)).all():
            raise InputError(f"{path}: this classifier gives logits that are not finite numbers")
    make.perform(stages.fmnist(stage.config), session=session, wait=wait)
    command = f"lorabench import-base {quoted(path)}"
    return make.perform(stage, session=session, force=force, wait=wait, tensors=tensors, command=command)


def plan(path: Path) -> tuple[stages.Stage, dict[str, Tensor]]:
    """The run that the classifier in `path` becomes, and its tensors.

    Its id is made of MNIST and the tensors, whatever their names and precision were in the file.

    Raises:
        InputError: as `read`.
    """
    tensors = read(path)
    images = stages.fmnist(config.load().config)
    settings = {IMPORTED: checkpoint.tensor_hash(tensors)}
    inputs = {"stage": "import-base", "settings": settings, "mnist": data.CHECKSUM}
    run_id = make_id("imported", images.config.seed, inputs)
    parents = Parents(data=images.id)
    return stages.Stage("pretrain", run_id, images.config.seed, settings, parents, images.config), tensors


def read(path: Path) -> dict[str, Tensor]:
    """The weights and biases of the classifier in `path`, under its own names.

    Raises:
        InputError: missing, too big, damaged or no safetensors; tensors are missing, too many, of other shapes or
            types; NaN or infinite values.
    """
    check_file(path.resolve(), MAX_TENSOR_BYTES)
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK" or start[:1] == b"\x80":  # as torch.save writes it, or pickle
        how = "safetensors.torch.save_file(model.state_dict(), 'base.safetensors')"
        raise InputError(f"{path}: a pickle can run code and is never opened; where it was trained, save it by {how}")
    _, stored = checkpoint.read(path)
    layers = _layers(stored)
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        place, _, kind = name.rpartition(".")
        # Every number of a half precision is one of float32.
        exact = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
        tensors[f"{layers[place]}.{kind}" if place in layers else name] = exact
    if len(tensors) < len(stored):
        raise InputError(f"{path}: holds more than one classifier; save one of them alone")
    checkpoint.check(path, tensors, SimpleMnistClassifier().state_dict())
    return tensors


def _layers(stored: dict[str, Tensor]) -> dict[str, str]:
    """Which layer of the classifier stands where in the file: by the shapes, or if they do not say it by the names."""
    layers = methods.linear_layers(SimpleMnistClassifier())
    of_shape: dict[tuple[int, ...], str] = {(m, n): layer for layer, (n, m) in layers.items()}
    places = [name.removesuffix(".weight") for name in stored if name.endswith(".weight")]
    shaped, named = dict[str | None, str](), dict[str | None, str]()
    for place in places:
        shaped.setdefault(of_shape.get(tuple(stored[f"{place}.weight"].shape)), place)
        named.setdefault(place.rpartition(".")[2], place)
    chosen = named if named.keys() & layers and not shaped.keys() >= layers.keys() else shaped
    known = {place: layer for layer, place in chosen.items() if layer in layers}
    if len(places) == len(layers):  # so that what is left is refused for its shape
        left = [place for place in places if place not in known], [name for name in layers if name not in chosen]
        known |= dict(zip(*left, strict=False))
    return known
