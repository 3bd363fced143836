"""Shifts: what each does to MNIST, and that a shift which somebody adds is a file and a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_shift
from test_config import load

from lorabench import config, data
from lorabench.analysis.quantities import SLICES
from lorabench.data import Mnist, shifts
from lorabench.errors import ConfigError
from lorabench.runner import stages

WITH_TOY = {**shifts.SHIFTS, "dim": toy_shift.SHIFT}


@pytest.fixture(autouse=True)
def dim(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a second shift."""
    monkeypatch.setitem(shifts.SHIFTS, "dim", toy_shift.SHIFT)


@pytest.fixture(scope="module")
def mnist(data_dir: Path) -> Mnist:
    return data.load(data_dir)


@pytest.mark.parametrize("shift", WITH_TOY.values(), ids=WITH_TOY)
def test_exactly_so_many_images_of_each_class_are_changed(shift: shifts.Shift, mnist: Mnist) -> None:
    options = shift.options(fraction=0.1, classes=(4, 7), seed=3)
    shifted = data.choose(mnist, options)
    for split, mask in (("train", shifted.train), ("test", shifted.test)):
        images, labels = getattr(mnist, f"{split}_images"), getattr(mnist, f"{split}_labels")
        before = images.copy()
        changed = shifted.apply(images, mask)
        np.testing.assert_array_equal(images, before)
        assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
        np.testing.assert_array_equal((changed != images).any(axis=(1, 2)), mask)
        sizes = np.bincount(labels, minlength=10)
        expected = [round(0.1 * sizes[digit]) if digit in (4, 7) else 0 for digit in range(10)]
        assert np.bincount(labels[mask], minlength=10).tolist() == expected
        assert data.class_counts(mnist, shifted)[split]["flipped"] == expected
    parts = data.slices(mnist, shifted)
    assert list(parts) == list(shift.parts)
    assert (np.sum(list(parts.values()), axis=0) == 1).all()


@pytest.mark.parametrize(
    ("axis", "expected"),
    [("horizontal", [[2, 1], [4, 3]]), ("vertical", [[3, 4], [1, 2]]), ("both", [[4, 3], [2, 1]])],
)
def test_a_mirror_has_an_axis(axis: Any, expected: list[list[int]]) -> None:
    options = shifts.parse({"axis": axis})
    image = np.array([[[1, 2], [3, 4]]], dtype=np.uint8)
    assert shifts.of(options).change(image, options)[0].tolist() == expected


def test_the_first_shift_needs_no_name_and_has_none_in_its_id() -> None:
    plain, named = load().config, load(sets=["fmnist.shift=mirror"]).config
    assert plain == named
    assert stages.fmnist(plain).settings == {"fraction": 0.3, "classes": [2, 3], "axis": "horizontal", "seed": 0}
    assert stages.fmnist(plain).id.startswith("fmnist-s0-2704cd07")


def test_another_shift_is_another_data_set_and_its_config_reads_back(tmp_path: Path) -> None:
    loaded = load(sets=["fmnist.shift=dim", "fmnist.factor=0.5"]).config
    stage = stages.fmnist(loaded)
    assert stage.settings == {"shift": "dim", "fraction": 0.3, "classes": [2, 3], "seed": 0, "factor": 0.5}
    assert stage.id != stages.fmnist(load().config).id
    assert stages.finetune(loaded).id != stages.finetune(load().config).id
    (tmp_path / "config.yaml").write_text(config.dump(loaded))
    assert load(tmp_path / "config.yaml").config == loaded


def test_the_report_says_what_the_first_shift_says() -> None:
    assert shifts.SHIFTS[shifts.FIRST].parts == SLICES
    assert toy_shift.SHIFT.parts == {"flipped": "dimmed", "upright": "not dimmed", "rest": "other digits"}


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["fmnist.shift=dimm"], ["fmnist", "no shift is called", "mirror, dim"]),
        (["fmnist.shift=[dim]"], ["fmnist", "no shift is called"]),
        (["fmnist.shift=dim", "fmnist.axis=both"], ["fmnist.axis", "unknown key"]),
        (["fmnist.shift=dim", "fmnist.facto=0.5"], ["fmnist.facto", 'did you mean "factor"']),
        (["fmnist.axi=both"], ["fmnist.axi", 'did you mean "axis"']),
        (["fmnist.shift=dim", "fmnist.factor=2"], ["fmnist.factor", "less than 1"]),
        (["fmnist=3"], ["fmnist", "valid dictionary"]),
    ],
)
def test_what_a_shift_does_not_have_is_refused(sets: list[str], told: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(sets=sets)
    (problem,) = caught.value.problems
    for part in told:
        assert part in problem
