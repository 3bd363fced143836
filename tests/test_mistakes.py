"""`evaluate RUN --show-errors`: which images are wrong, in which order, and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from report_factory import finetune, render, widest

from lorabench.evaluate import Mistake, mistakes
from lorabench.report import detail


def drawn(count: int) -> list[Mistake]:
    image = np.zeros((28, 28), dtype=np.uint8)
    image[7:21, 7:21] = 255
    return [Mistake(100 + i, 3, 8, 0.99 - i / 100, flipped=i % 2 == 0, image=image) for i in range(count)]


def test_mistakes_are_the_wrong_images_most_confident_first() -> None:
    labels = np.array([0, 1, 2, 3, 4], dtype=np.uint8)
    logits = torch.zeros(5, 10)
    for index, (digit, height) in enumerate([(0, 5.0), (7, 1.0), (8, 3.0), (3, 9.0), (9, 1.0)]):
        logits[index, digit] = height
    images = np.arange(5 * 784, dtype=np.uint64).astype(np.uint8).reshape(5, 28, 28)
    flipped = np.array([True, True, False, False, False])
    found = mistakes(logits, labels, images, flipped)
    assert [(m.index, m.true, m.predicted, m.flipped) for m in found] == [
        (2, 2, 8, False),
        (1, 1, 7, True),
        (4, 4, 9, False),
    ]
    assert found[0].confidence == pytest.approx(np.exp(3) / (np.exp(3) + 9))
    assert all((m.image == images[m.index]).all() for m in found)


def test_mistakes_are_drawn_four_beside_each_other_with_their_captions() -> None:
    text = render(detail.mistakes(finetune(), drawn(9), 6, "turned"))
    lines = text.splitlines()
    assert widest(text) <= 80
    assert "9 of 10,000 F-MNIST test images wrong, 5 of them turned" in text
    first = next(index for index, line in enumerate(lines) if line.startswith("3 as 8"))
    assert lines[first].split() == "3 as 8 99.0% 3 as 8 98.0% 3 as 8 97.0% 3 as 8 96.0%".split()  # noqa: SIM905
    assert lines[first + 1].split() == ["#100", "turned", "#101", "#102", "turned", "#103"]
    assert lines[first + 6].count("█████████") == 4
    assert "#105" in text
    assert "#106" not in text
    assert widest(render(detail.mistakes(finetune(), drawn(2), 2, "turned"), 30)) <= 30


def test_no_mistakes_are_no_pictures() -> None:
    assert render(detail.mistakes(finetune(), [], 5, "turned")).splitlines()[-1].startswith("0 of 10,000 F-MNIST")
