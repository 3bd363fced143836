"""The spectrum of what a fine-tune did to the weights, against matrices known by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lorabench import methods, spectrum
from lorabench.model import SimpleMnistClassifier, seeded


def test_the_spectrum_of_a_known_matrix() -> None:
    change = torch.zeros(5, 7)
    change[0, 1], change[2, 3], change[4, 4] = 3.0, -4.0, 0.5
    found = spectrum.spectrum(change)
    assert found.frobenius == pytest.approx(25.25**0.5)
    assert found.stable_rank == pytest.approx(25.25 / 16)
    assert found.rank90 == 2
    assert spectrum.spectrum(torch.zeros(3, 2)) == (0, 0, 0)


@pytest.mark.parametrize(("method", "options", "most"), [("lora", {"k": 3}, 3), ("head", {}, 10), ("bitfit", {}, 0)])
def test_a_change_has_at_most_the_methods_rank(method: str, options: dict[str, Any], most: int) -> None:
    with seeded(0):
        model = SimpleMnistClassifier()
        before = spectrum.copy(model)
        methods.apply(model, method, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.1 * torch.randn_like(parameter)
    found = spectrum.delta_w(before, methods.merge(model))
    assert list(found) == ["fc1", "fc2", "fc3"]
    assert max(layer.rank90 for layer in found.values()) <= most
    assert (found["fc1"].frobenius > 0) == (method == "lora")
    assert found["fc3"].stable_rank <= max(most, 0)
