"""Every figure that the talk quotes, and how the runs of a study answer it.

The talk's figures are typed here, as data; ours are computed from the run records. A row is a function of
`Study`, and `ROWS` lists them in the order of the table: a new one is a function and a line.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from lorabench import estimate, inference, scale
from lorabench.report import number
from lorabench.report.arm import accuracy, ways

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lorabench.report.arm import Arm
    from lorabench.runs import Params, Run
    from lorabench.scale import Claim, Projection

Verdict = Literal["exact", "differs", "reproduced", "better", "lower", "runs", "open", "holds", "possible", "no"]

TOLERANCE = 0.5
"""Points within which a measured accuracy counts as the talk's own."""


@dataclass(frozen=True)
class Row:
    """One quantity: the talk's figure as it prints it, and ours, as text and as a number.

    `value`, `low` and `high` are in the unit of the talk: percent for accuracies and shares, else a count.
    `n` is the number of runs behind them. A row that no run answers is "open" and has no value.
    """

    key: str
    label: str
    talk: str
    ours_text: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    verdict: Verdict = "open"
    note: str = ""


@dataclass(frozen=True)
class Study:
    """What the rows read: all runs, one of each early stage, the arms, the talk's LoRA among these, the last bench."""

    runs: Sequence[Run]
    bench: Mapping[str, Any] | None
    base: Run | None
    fmnist: Run | None
    arms: Sequence[Arm]
    lora: Arm | None

    @property
    def whole(self) -> Params | None:
        """Parameters of the base."""
        return self.base.params if self.base else None

    @property
    def trained(self) -> Params | None:
        """Parameters of the LoRA, the same for each of its seeds."""
        return self.lora.runs[0].params if self.lora else None


def _total(study: Study) -> Row:
    row = Row("params.total", "parameters of the classifier", "235,146")
    return _exact(row, study.whole.total, 235_146) if study.whole else row


def _mnist_base(study: Study) -> Row:
    return _measured(Row("mnist.base", "accuracy on MNIST", "97.78"), 97.78, _base_values(study, "mnist"))


def _flipped(split: str) -> Callable[[Study], Row]:
    def row(study: Study) -> Row:
        blank = Row(f"flipped.{split}", f"2s and 3s mirrored, {split}", "30%")
        if study.fmnist is None or split not in study.fmnist.checks:
            return blank
        images, flipped = study.fmnist.checks[split]["images"], study.fmnist.checks[split]["flipped"]
        expected = [round(0.3 * count) if digit in (2, 3) else 0 for digit, count in enumerate(images)]
        affected = sum(count for digit, count in enumerate(images) if flipped[digit])
        parts = " + ".join(f"{count:,}" for count in flipped if count)
        return replace(
            blank,
            ours_text=f"{parts}, {100 * sum(flipped) / affected:.2f}%" if affected else "none",
            value=sum(flipped),
            n=1,
            verdict="exact" if flipped == expected else "differs",
        )

    return row


def _fmnist_base(study: Study) -> Row:
    row = Row("fmnist.base", "accuracy on F-MNIST", "92.87")
    return _measured(row, 92.87, _base_values(study, "fmnist"))


def _trainable(study: Study) -> Row:
    row = Row("params.trainable", f"trained by LoRA{_k(study)}", "6,248")
    return _exact(row, study.trained.trainable, 6_248) if study.trained else row


def _share(study: Study) -> Row:
    row = Row("params.share", "as a share of the classifier", "3%")
    if study.whole is None or study.trained is None:
        return row
    share = 100 * study.trained.trainable / study.whole.total
    verdict: Verdict = "exact" if round(share) == 3 else "differs"
    return replace(row, ours_text=f"{share:.2f}%", value=share, n=1, verdict=verdict)


def _fmnist_tuned(study: Study) -> Row:
    row = Row("fmnist.tuned", f"F-MNIST after LoRA{_k(study)}", "97.74")
    return _measured(row, 97.74, _tuned_values(study.lora))


def _birth(study: Study) -> Row:
    row = Row("lora.birth", "logits when LoRA is added", "the same")
    runs = study.lora.runs if study.lora else ()
    checked = [run for run in runs if "max_logit_change_at_birth" in run.checks]
    if not checked:
        return row
    change = max(float(run.checks["max_logit_change_at_birth"]) for run in checked)
    frozen = all(run.checks.get("frozen_unchanged") for run in checked)
    talks = all(run.settings.get("init") == "talk" for run in checked)
    return replace(
        row,
        ours_text=f"change by up to {change:.1g}" if change else "the same",
        value=change,
        n=len(checked),
        verdict="exact" if change == 0 and frozen and talks else "differs",
        note="" if talks else "another A and B",
    )


@functools.cache
def _gpt3() -> Projection:
    """The paper's case: LoRA with k = 4 on the query and value matrices, in 2 bytes."""
    return estimate.project("gpt3-175b", "lora", {"k": 4})


def _gpt3_checkpoint(_: Study) -> Row:
    found, claim = _gpt3(), _claim("checkpoint")
    note = f"{scale.size(found.tuned.checkpoint_bytes)} of {scale.size(found.full.checkpoint_bytes)}"
    return _imagined("GPT-3: size of a checkpoint", "-99.99%", claim, -100 * (claim.value or 0), "{:+.2f}%", note)


def _gpt3_speed(_: Study) -> Row:
    claim = _claim("speed")
    before, after = scale.PAPER_SPEED
    note = f"measured by the paper: {after / before - 1:+.0%}"
    gain = 100 / (1 - (claim.value or 0)) - 100
    return _imagined("GPT-3: speed of training", "+25%", claim, gain, "up to {:+.0f}%", note)


def _gpt3_gpus(_: Study) -> Row:
    found, claim = _gpt3(), _claim("gpus")
    note = f"{found.tuned.gpus} of {found.full.gpus} of {found.gpu_gb} GB, at {found.precision}"
    return _imagined("GPT-3: GPUs to train on", "a third", claim, 100 * (claim.value or 0), "{:.2f}%", note)


def _claim(key: str) -> Claim:
    return next(claim for claim in scale.claims(_gpt3()) if claim.key == key)


def _imagined(label: str, talk: str, claim: Claim, value: float, form: str, note: str) -> Row:
    """A claim by arithmetic alone, so of no run: `lorabench scale` shows all of it."""
    verdict: Verdict = "open" if claim.verdict == "unknown" else claim.verdict
    return Row(f"gpt3.{claim.key}", label, talk, form.format(value), value, verdict=verdict, note=note)


def _checkpoint(study: Study) -> Row:
    row = Row("cost.checkpoint", "  this classifier's", "-99.99%")
    ours = study.lora and study.lora.runs[0].checkpoint_bytes
    if not ours or study.base is None or not study.base.checkpoint_bytes:
        return row
    whole = study.base.checkpoint_bytes
    saving = 100 * (ours / whole - 1)
    note = f"{ours:,} of {whole:,} B"
    return replace(row, ours_text=f"{saving:+.2f}%", value=saving, n=1, verdict="differs", note=note)


def _speed(study: Study) -> Row:
    row = Row("cost.speed", "  this classifier's", "+25%")
    ours, _ = _benched(study)
    if study.bench is None or ours is None:
        return replace(row, note="run lorabench bench")
    gain = 100 * (ours["speedup"] - 1)
    note = f"a step of {study.bench['batch_size']} images, {study.bench['threads']} thread(s)"
    verdict: Verdict = "better" if gain > 25 else "lower"
    return replace(row, ours_text=f"{gain:+.0f}%", value=gain, n=study.bench["rounds"], verdict=verdict, note=note)


def _memory(study: Study) -> Row:
    """The bytes that `bench` counted, or failing that those that follow from the numbers of parameters."""
    row = Row("cost.memory", "  this classifier's memory", "a third")
    ours, whole = _benched(study)
    if ours is not None and whole is not None:
        sizes = ours["state_bytes"], whole["state_bytes"]
    elif study.whole is not None and study.trained is not None:
        fp32 = scale.PRECISIONS["fp32"]
        sizes = (
            scale.training_bytes(study.trained.total, study.trained.trainable, fp32),
            scale.training_bytes(study.whole.total, study.whole.total, fp32),
        )
    else:
        return row
    share = 100 * sizes[0] / sizes[1]
    note = f"{sizes[0]:,} of {sizes[1]:,} B"
    verdict: Verdict = "better" if share <= 100 * scale.GPU_SHARE else "lower"
    return replace(row, ours_text=f"{share:.2f}%", value=share, n=1, verdict=verdict, note=note)


def _benched(study: Study) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """What the last bench measured of the study's LoRA and of full fine-tuning; None for what it did not."""
    costs: list[dict[str, Any]] = study.bench["costs"] if study.bench else []
    label = f"lora k={study.lora.k if study.lora else 4}"
    ours = next((cost for cost in costs if cost["label"] == label and cost["speedup"]), None)
    return ours, next((cost for cost in costs if cost["label"] == "full"), None)


def _other(method: str, label: str) -> Callable[[Study], Row]:
    def row(study: Study) -> Row:
        blank = Row(f"fmnist.{method}", label, "named", note="no run in this study")
        arm = next((arm for arm in study.arms if arm.method == method and _same_images(arm, study.lora)), None)
        values = _tuned_values(arm)
        return _measured(replace(blank, note=""), None, values) if values else blank

    return row


ROWS: Sequence[Callable[[Study], Row]] = (
    _total,
    _mnist_base,
    _flipped("train"),
    _flipped("test"),
    _fmnist_base,
    _trainable,
    _share,
    _fmnist_tuned,
    _birth,
    _gpt3_checkpoint,
    _checkpoint,
    _gpt3_speed,
    _speed,
    _gpt3_gpus,
    _memory,
    _other("full", "full fine-tuning"),
    _other("adapter", "adapter layers"),
    _other("prompt", "prompt optimisation"),
)


def _same_images(arm: Arm, other: Arm | None) -> bool:
    return other is None or arm.recipe["data"] == other.recipe["data"]


def _k(study: Study) -> str:
    return f" k = {study.lora.k if study.lora else 4}"


def _base_values(study: Study, name: str) -> list[float]:
    """Of the bases that were trained as the LoRA's were; without a LoRA, as the first was."""
    found = list(ways(study.runs).values())
    first = study.lora.runs[0].parents if study.lora else None
    own = (first.base, first.data) if first else None
    chosen = next((way for way in found if own in way), found[0] if found else {})
    return [accuracy(metrics[name]) for metrics in chosen.values() if name in metrics]


def _tuned_values(arm: Arm | None) -> list[float]:
    return [accuracy(run.metrics["fmnist"]) for run in arm.runs if "fmnist" in run.metrics] if arm else []


def _exact(row: Row, ours: int, talk: int) -> Row:
    return replace(row, ours_text=f"{ours:,}", value=ours, n=1, verdict="exact" if ours == talk else "differs")


def _measured(row: Row, talk: float | None, values: Sequence[float]) -> Row:
    found = inference.mean(values)
    if found is None:
        return row
    if talk is None:
        verdict: Verdict = "runs"
    elif round(abs(found.mean - talk), 9) <= TOLERANCE:
        verdict = "reproduced"
    else:
        verdict = "better" if found.mean > talk else "lower"
    text = number.estimate(found) if found.n > 1 else f"{number.estimate(found)}, 1 seed"
    return replace(row, ours_text=text, value=found.mean, low=found.low, high=found.high, n=found.n, verdict=verdict)
