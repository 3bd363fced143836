"""Files of a classifier of one's own, whatever its layers are called; and files that are none."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from lorabench.errors import InputError
from lorabench.exchange.base import read
from lorabench.model import SimpleMnistClassifier

torch.manual_seed(0)
STATE: dict[str, Tensor] = {**SimpleMnistClassifier().state_dict()}


def save_file(tensors: dict[str, Tensor], path: Path) -> None:
    path.write_bytes(save(tensors))


def renamed(*places: str) -> dict[str, Tensor]:
    """The tensors, with the three layers at these places."""
    return {f"{places[int(name[2]) - 1]}{name[3:]}": tensor.clone() for name, tensor in STATE.items()}


@pytest.mark.parametrize(
    "places",
    [
        ("fc1", "fc2", "fc3"),
        *[tuple(f"{prefix}fc{i}" for i in (1, 2, 3)) for prefix in ("module.", "_orig_mod.module.", "model.", "a.b.")],
        ("0", "2", "4"),
        ("layers.4", "layers.0", "layers.2"),
        ("net.hidden", "net.more", "net.out"),
        ("fc1", "fc2", "head"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_layers_are_known_by_shape_whatever_they_are_called(
    tmp_path: Path, places: tuple[str, ...], dtype: torch.dtype
) -> None:
    path = tmp_path / "base.safetensors"
    path.write_bytes(save({name: tensor.to(dtype) for name, tensor in renamed(*places).items()}))
    tensors = read(path)
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensor, STATE[name].to(dtype).float()) for name, tensor in tensors.items())


def as_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"fc1": 1}))


def as_safetensors(**changes: Tensor | None) -> Callable[[Path], object]:
    changed = {**STATE, **{name.replace("_", "."): tensor for name, tensor in changes.items()}}
    return lambda path: save_file({name: t.clone() for name, t in changed.items() if t is not None}, path)


def sequential(path: Path) -> None:
    save_file({**renamed("0", "2", "4"), "2.weight": torch.zeros(100, 256), "2.bias": torch.zeros(100)}, path)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a wrong shape": (as_safetensors(fc2_weight=torch.zeros(100, 256)), "fc2.weight is torch.float32 (100, 256), must"),
    "a wrong shape of a layer without a name": (sequential, "fc2.bias is torch.float32 (100,), must be"),
    "transposed": (as_safetensors(fc3_weight=torch.zeros(128, 10)), "fc3.weight is torch.float32 (128, 10), must be"),
    "a missing bias": (as_safetensors(fc3_bias=None), "lacks the tensor fc3.bias"),
    "a missing layer": (as_safetensors(fc3_bias=None, fc3_weight=None), "lacks the tensor fc3.bias"),
    "one layer more": (as_safetensors(bn_weight=torch.zeros(256)), "does not belong to this model: 'bn.weight'"),
    "two classifiers": (
        lambda path: save_file({**renamed("fc1", "fc2", "fc3"), **renamed("a.fc1", "a.fc2", "a.fc3")}, path),
        "holds more than one classifier",
    ),
    "NaN": (as_safetensors(fc1_bias=torch.full((256,), torch.nan)), "fc1.bias holds values that are not finite"),
    "double precision": (as_safetensors(fc1_bias=torch.zeros(256).double()), "fc1.bias is torch.float64"),
    "no tensors": (lambda path: save_file({}, path), "lacks the tensor"),
    "a pickle": (as_pickle, "never opened; where it was trained, save it by safetensors.torch.save_file"),
    "torch.save": (lambda path: torch.save(STATE, path), "a pickle can run code and is never opened"),
    "text": (lambda path: path.write_text("hello"), "damaged"),
    "nothing": (lambda path: None, "cannot be read: No such file"),
    "a folder": (lambda path: path.mkdir(), "no regular file"),
    "a pipe": (os.mkfifo, "no regular file"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_is_no_such_classifier_is_refused_in_one_line(tmp_path: Path, how: str) -> None:
    spoil, message = REFUSED[how]
    path = tmp_path / "base.safetensors"
    spoil(path)
    with pytest.raises(InputError) as stop:
        read(path)
    assert message in str(stop.value)
    assert "\n" not in str(stop.value)


def test_a_file_that_the_user_links_to_is_read(tmp_path: Path) -> None:
    save_file(renamed("0", "2", "4"), tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read(tmp_path / "link").keys() == STATE.keys()
