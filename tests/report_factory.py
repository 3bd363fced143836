"""Run records as a study would leave them, with counts that a test can work out by hand."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from lorabench.analysis.inference import Estimate
from lorabench.report.blocks import Block
from lorabench.report.shown import study_shown
from lorabench.report.writers.terminal import renderable
from lorabench.runs import Cost, Failure, Metrics, Params, Parents, Run, Slice

IMAGES = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
TRAIN_IMAGES = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
FMNIST = "fmnist-s0-90ab12cd"
HURT = {(2, 5): 133, (2, 6): 71, (3, 5): 75, (3, 8): 173}


def matrix(mistakes: Mapping[tuple[int, int], int]) -> list[list[int]]:
    """The confusion matrix of MNIST's test set with these mistakes."""
    cells = [[n if t == p else 0 for p in range(10)] for t, n in enumerate(IMAGES)]
    for (true, predicted), count in mistakes.items():
        cells[true][predicted] += count
        cells[true][true] -= count
    return cells


def wrong(count: int) -> dict[tuple[int, int], int]:
    """So many mistakes, nines taken for fours as far as there are nines, then eights for threes and so on."""
    return {(9 - i, (14 - i) % 10): min(800, count - 800 * i) for i in range(10) if count > 800 * i}


def metrics(mistakes: Mapping[tuple[int, int], int], flipped: int | None = None) -> Metrics:
    """With `flipped`, the number of mirrored images that are right, if so few can be, the slices of F-MNIST too."""
    cells = matrix(mistakes)
    correct = sum(cells[digit][digit] for digit in range(10))
    counts: dict[str, tuple[int, int]] = {}
    if flipped is not None:
        flipped = max(flipped, correct - (10_000 - 613))
        upright = max(1400, correct - flipped - 7958)
        rest = correct - flipped - upright
        counts = {"flipped": (613, flipped), "upright": (1429, upright), "rest": (7958, rest)}
    slices = {name: Slice(n=n, correct=right, accuracy=right / n) for name, (n, right) in counts.items()}
    return Metrics(n=10_000, correct=correct, accuracy=correct / 10_000, loss=0.0712, confusion=cells, slices=slices)


def cost(seconds: float = 4.1) -> Cost:
    return Cost(
        train_s=seconds,
        wall_s=seconds + 1,
        steps=940,
        step_ms=1000 * seconds / 940,
        images_per_s=240_000 / seconds,
        peak_rss_bytes=512_000_000,
        rss_before_bytes=400_000_000,
    )


def fmnist() -> Run:
    flips = {"train": (1787, 1839), "test": (310, 303)}
    checks = {
        split: {
            "images": TRAIN_IMAGES if split == "train" else IMAGES,
            "flipped": [0, 0, *counts, 0, 0, 0, 0, 0, 0],
            "sha256": ("ab" if split == "train" else "cd") * 32,
        }
        for split, counts in flips.items()
    }
    return Run(
        schema=1,
        id=FMNIST,
        stage="fmnist",
        seed=0,
        study="demo",
        status="done",
        settings={"fraction": 0.3, "classes": [2, 3], "axis": "horizontal", "seed": 0},
        checks=checks,
        started="2025-11-23T20:00:00+00:00",
    )


def pretrain(seed: int = 0, mnist_errors: int = 222, **changes: Any) -> Run:
    run = Run(
        schema=1,
        id=f"pretrain-s{seed}-1b2c3d4{seed}",
        stage="pretrain",
        seed=seed,
        study="demo",
        status="done",
        parents=Parents(data=FMNIST),
        params=Params(total=235_146, trainable=235_146, frozen=0),
        checkpoint_bytes=941_136,
        metrics={
            "mnist": metrics({(4, 9): mnist_errors}),
            "fmnist": metrics({(4, 9): mnist_errors, **HURT}, 83 + seed),
        },
        settings={"epochs": 4, "lr": 0.01, "seed": seed},
        env={"torch": "2.13.0", "packages": {"numpy": "2.4.6"}},
        cost=cost(6.1),
        started="2025-11-23T20:01:00+00:00",
    )
    return run.model_copy(update=changes)


def finetune(seed: int = 0, mnist_errors: int = 222, fmnist_errors: int = 226, **changes: Any) -> Run:
    base = pretrain(seed)
    run = Run(
        schema=1,
        id=f"lora-k4-s{seed}-7f3c2a9{seed}",
        stage="finetune",
        method="lora",
        k=4,
        seed=seed,
        study="demo",
        status="done",
        parents=Parents(base=base.id, data=FMNIST),
        params=Params(total=241_394, trainable=6_248, frozen=235_146),
        checkpoint_bytes=25_616,
        metrics={
            "mnist": metrics({(9, 4): mnist_errors}),
            "fmnist": metrics({**wrong(max(0, fmnist_errors - 9)), (3, 8): min(9, fmnist_errors)}, 580 + 2 * seed),
        },
        before=base.metrics,
        checks={"max_logit_change_at_birth": 0.0, "frozen_unchanged": True, "base_sha256": "ef" * 32},
        settings={
            "method": "lora",
            "epochs": 4,
            "lr": 0.003,
            "seed": seed,
            "k": 4,
            "init": "talk",
            "targets": None,
        },
        env={"torch": "2.13.0", "packages": {"numpy": "2.4.6"}},
        cost=cost(),
        started="2025-11-23T20:02:00+00:00",
    )
    return run.model_copy(update=changes)


def study(seeds: Iterable[int] = range(5)) -> list[Run]:
    """F-MNIST, and for each seed a base and its LoRA; the LoRA's errors differ by seed, and on MNIST in both ways."""
    runs = [fmnist()]
    for seed in seeds:
        runs += [pretrain(seed), finetune(seed, 222 + 10 * (-1) ** seed, 226 + 5 * seed)]
    return runs


def two_ways(seeds: int = 3) -> list[Run]:
    """Bases of 2 and of 4 epochs, which err on 322 and 222 images of MNIST, and LoRAs on both, 20 and 10 ahead."""
    runs = [fmnist()]
    for seed in range(seeds):
        for epochs, errors in ((4, 222), (2, 322)):
            settings = pretrain(seed).settings | {"epochs": epochs}
            base = pretrain(seed, errors, id=f"pretrain-s{seed}-{epochs}b2c3d4{seed}", settings=settings)
            tuned = finetune(seed, errors - 5 * epochs, id=f"lora-k4-s{seed}-{epochs}f3c2a9{seed}", before=base.metrics)
            runs += [base, tuned.model_copy(update={"parents": Parents(base=base.id, data=FMNIST)})]
    return runs


def failed(seed: int = 7) -> Run:
    error = Failure(type="RunFailedError", message="the loss is NaN at step 12 of 940; try a smaller finetune.lr")
    return finetune(seed).model_copy(
        update={
            "status": "failed",
            "metrics": {},
            "before": {},
            "params": None,
            "cost": None,
            "checks": {},
            "error": error,
        }
    )


def render(what: Block, width: int = 80, *, color: bool = False, crop: bool = True) -> str:
    """`what` as a console of this width prints it, with escape sequences if `color`, longer lines cut if `crop`."""
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=color,
        color_system="truecolor" if color else None,
        no_color=not color,
        highlight=False,
    )
    console.print(renderable(what), crop=crop)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def student(found: Estimate) -> tuple[float, float | None, float | None, float | None, int]:
    """What `stats.t_interval` gives, of an estimate that has an interval."""
    return (found.mean, found.sd, found.low, found.high, found.n)


def without_escapes(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def squeezed(text: str) -> str:
    """With every run of blanks and line ends as one blank, so that a test need not know the columns."""
    return " ".join(text.split())


def widest(text: str) -> int:
    return max(len(line) for line in text.splitlines())


def study_report(runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> Block:
    return study_shown(runs, bench).table


def study_data(runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return study_shown(runs, bench).data
