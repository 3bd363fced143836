"""Every figure that the talk quotes, how the runs of a study answer it, and whether a config's `expect:` holds.

The talk's figures are typed here, as data; ours are counted, measured or computed from the run records, and each says
which. A row is a function of `Study`, and `ROWS` lists them in the order of the table: a new one is a function and a
line.

A claim is answered by runs in the talk's setting and by no others: LoRA of k = 4 on all three layers, A from N(0, 1),
its part not scaled, for F-MNIST with 30% of the twos and threes mirrored left to right, measured on the test set. How
long and how fast one trains the talk does not say, so that any recipe may answer.

    expect: {params.total: 235146, fmnist.tuned: {value: 97.74%, tolerance: 0.8%}}

An expected figure is in the unit of its row: percent, with the sign or without it, or a number without a unit.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from lorabench import scale
from lorabench.analysis import inference, number
from lorabench.analysis.aggregate import count
from lorabench.analysis.parameters import base_run
from lorabench.analysis.settings import collect, featured_setting
from lorabench.classifier import CLASSIFIER
from lorabench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lorabench.analysis.inference import Count, Estimate
    from lorabench.analysis.settings import Setting
    from lorabench.config import Expectation
    from lorabench.runs import Params, Run
    from lorabench.scale import Claim, Projection


Counted = Literal["exact", "rounds to 3%", "differs"]
Judged = Literal["reproduced", "above", "below", "undecided", "no verdict"]
Reckoned = Literal["holds", "possible", "no", "unknown"]
Verdict = Counted | Judged | Reckoned | Literal["runs", "not run here"]
TOLERANCE = 0.5
"""Points from the talk's figure within which a whole interval must lie to have reproduced it."""
LEVELS = 0.95, 0.90
"""Of the interval that excludes the talk's figure or not, and of the one that must lie within `TOLERANCE` of it.

That the second is narrower is the usual test of equivalence: two one-sided tests at 5%. Schuirmann, J. Pharmacokinetics
and Biopharmaceutics 15, 1987.
"""
MIRRORED: Mapping[str, Any] = {"fraction": 0.3, "classes": [2, 3], "axis": "horizontal"}
"""The settings of the talk's F-MNIST; which images of a digit are mirrored it does not say."""
K = 4
"""The rank of the talk's LoRA."""


@dataclass(frozen=True)
class Row:
    """One quantity: the talk's figure as it prints it, and ours, as text and as a number.

    `value`, `low` and `high` are in the unit of the talk: percent for accuracies and shares, else a count. `low` and
    `high` are a 95% interval; `n` is the number of runs behind them. A row that no run answers is "not run here" and
    has no value; `note` may then say what was run instead.
    """

    key: str
    label: str
    talk: str
    source: Literal["counted", "measured", "computed"]
    ours_text: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    verdict: Verdict = "not run here"
    note: str = ""


@dataclass(frozen=True)
class Study:
    """What the rows read.

    Attributes:
        runs: all of the study, with their parents.
        bench: what the last bench measured.
        base: one of the bases.
        fmnist: the run of F-MNIST, the talk's if there are several.
        arms: the fine-tunes.
        sized: the arm whose LoRA has the talk's size.
        lora: the arm whose LoRA is the talk's in all, on the talk's images.
    """

    runs: Sequence[Run]
    bench: Mapping[str, Any] | None
    base: Run | None
    fmnist: Run | None
    arms: Sequence[Setting]
    sized: Setting | None
    lora: Setting | None

    @property
    def whole(self) -> Params | None:
        """Parameters of the base."""
        return self.base.params if self.base else None

    @property
    def trained(self) -> Params | None:
        """Parameters of the talk's LoRA, the same for each of its seeds."""
        return self.sized.runs[0].params if self.sized else None


def study(runs: Sequence[Run], bench: Mapping[str, Any] | None, arms: Sequence[Setting], base: Run | None) -> Study:
    """The runs of a study, and which of them are in the talk's setting."""
    loras = [arm for arm in arms if arm.method == "lora"]
    data = sorted((run for run in runs if run.stage == "fmnist" and run.status == "done"), key=lambda r: len(_data(r)))
    sized = [arm for arm in loras if not _size(arm.runs[0])]
    found = Study(runs, bench, base, next(iter(data), None), arms, featured_setting(sized), None)
    return replace(found, lora=featured_setting([arm for arm in sized if not _departures(found, arm)]))


def _size(run: Run) -> list[str]:
    """How a LoRA's size departs from the talk's: words such as `k=8`."""
    return [*([f"k={run.k}"] if run.k != K else []), *_targets(run)]


def _targets(run: Run) -> list[str]:
    """The layers that a method goes to, if not to all."""
    targets = run.settings.get("targets") or list(CLASSIFIER)
    return [f"targets={','.join(targets)}"] if set(targets) != set(CLASSIFIER) else []


def _layer(run: Run) -> list[str]:
    """How a LoRA's layer departs from the talk's, size apart. alpha = k is no departure: the factor is 1."""
    init, alpha = run.settings.get("init"), run.settings.get("alpha")
    return [
        *([f"init={init}"] if init != "talk" else []),
        *([f"alpha={alpha:g}"] if alpha is not None and alpha != run.k else []),
    ]


def _data(run: Run | None) -> list[str]:
    """How an F-MNIST departs from the talk's."""
    if run is None:
        return ["an F-MNIST of which no run is there"]
    found = {**run.settings, "classes": sorted(run.settings["classes"])}
    held_out = [f"holdout={run.holdout}"] if run.holdout else []
    return held_out + [
        f"{key}={','.join(map(str, found[key])) if key == 'classes' else found.get(key)}"
        for key, talk in MIRRORED.items()
        if found.get(key) != talk
    ]


def _images(study: Study, run: Run) -> list[str]:
    """How the F-MNIST that a run was measured on departs from the talk's."""
    known = {data.id: data for data in study.runs if data.stage == "fmnist" and data.status == "done"}
    return _data(known.get(run.parents.data or ""))


def _departures(study: Study, arm: Setting) -> list[str]:
    """How an arm departs from what the talk says of its method; of others than these two it says the name alone."""
    run = arm.runs[0]
    own = {"lora": [*_size(run), *_layer(run)], "full": _targets(run)}.get(arm.method, [])
    return [*own, *_images(study, run)]


def _instead(study: Study) -> str:
    """What the study's LoRA is instead of the talk's."""
    arm = featured_setting([arm for arm in study.arms if arm.method == "lora"])
    return f"here with {', '.join(_departures(study, arm))}" if arm else ""


def _total(study: Study) -> Row:
    row = Row("params.total", "classifier's parameters", "235,146", "counted")
    return _exact(row, study.whole.total, 235_146) if study.whole else row


def _mnist_base(study: Study) -> Row:
    row = Row("mnist.base", "accuracy on MNIST", "97.78", "measured")
    return _measured(row, 97.78, _base_values(study, "mnist"))


def _flipped(split: str) -> Callable[[Study], Row]:
    def row(study: Study) -> Row:
        blank = Row(f"flipped.{split}", f"2s and 3s mirrored, {split}", "30%", "counted")
        if study.fmnist is None or split not in study.fmnist.checks:
            return blank
        if other := _data(study.fmnist):
            return replace(blank, note=f"here with {', '.join(other)}")
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
    row = Row("fmnist.base", "accuracy on F-MNIST", "92.87", "measured")
    return _measured(row, 92.87, _base_values(study, "fmnist"))


def _trainable(study: Study) -> Row:
    row = Row("params.trainable", f"trained by LoRA k = {K}", "6,248", "counted")
    return _exact(row, study.trained.trainable, 6_248) if study.trained else row


def _share(study: Study) -> Row:
    row = Row("params.share", "  of the classifier's", "3%", "counted")
    if study.whole is None or study.trained is None:
        return row
    share = 100 * study.trained.trainable / study.whole.total
    verdict: Verdict = "rounds to 3%" if round(share) == 3 else "differs"
    return replace(row, ours_text=f"{share:.2f}%", value=share, n=1, verdict=verdict)


def _fmnist_tuned(study: Study) -> Row:
    row = Row("fmnist.tuned", f"F-MNIST after LoRA k = {K}", "97.74", "measured")
    return _measured(row, 97.74, _tuned_values(study.lora)) if study.lora else replace(row, note=_instead(study))


def _birth(study: Study) -> Row:
    row = Row("lora.birth", "logits when LoRA is added", "the same", "measured")
    runs = study.lora.runs if study.lora else ()
    checked = [run for run in runs if "max_logit_change_at_birth" in run.checks]
    if not checked:
        return row
    change = max(float(run.checks["max_logit_change_at_birth"]) for run in checked)
    frozen = all(run.checks.get("frozen_unchanged") for run in checked)
    return replace(
        row,
        ours_text=f"change by up to {change:.1g}" if change else "the same",
        value=change,
        n=len(checked),
        verdict="exact" if change == 0 and frozen else "differs",
    )


@functools.cache
def _gpt3() -> Projection:
    """The paper's case: LoRA with k = 4 on the query and value matrices, in 2 bytes."""
    return scale.project("gpt3-175b", "lora", {"k": K})


def _gpt3_checkpoint(_: Study) -> Row:
    found, claim = _gpt3(), _claim("checkpoint")
    note = f"{scale.size(found.tuned.checkpoint_bytes)} of {scale.size(found.full.checkpoint_bytes)}"
    return _imagined("GPT-3: size of a checkpoint", "-99.99%", claim, -100 * (claim.value or 0), "{:+.2f}%", note)


def _gpt3_speed(_: Study) -> Row:
    claim = _claim("speed")
    before, after = scale.PAPER_SPEED
    note = f"multiply-adds; quoted from the paper: {after / before - 1:+.0%}"
    gain = 100 / (1 - (claim.value or 0)) - 100
    return _imagined("GPT-3: speed of training", "+25%", claim, gain, "up to {:+.0f}%", note)


def _gpt3_gpus(_: Study) -> Row:
    found, claim = _gpt3(), _claim("gpus")
    note = f"{found.tuned.gpus} of {found.full.gpus} of {found.tuned.gpu_gb} GB, at {found.tuned.precision.name}"
    return _imagined("GPT-3: GPUs to train on", "a third", claim, 100 * (claim.value or 0), "{:.2f}%", note)


def _claim(key: str) -> Claim:
    return next(claim for claim in scale.claims(_gpt3()) if claim.key == key)


def _imagined(label: str, talk: str, claim: Claim, value: float, form: str, note: str) -> Row:
    """A claim by arithmetic alone, so of no run: `lorabench scale` shows all of it."""
    row = Row(f"gpt3.{claim.key}", label, talk, "computed")
    return replace(row, ours_text=form.format(value), value=value, verdict=claim.verdict, note=note)


def _checkpoint(study: Study) -> Row:
    row = Row("cost.checkpoint", "  this classifier's", "-99.99%", "counted")
    ours = study.sized and study.sized.runs[0].checkpoint_bytes
    if not ours or study.base is None or not study.base.checkpoint_bytes:
        return row
    whole = study.base.checkpoint_bytes
    saving = 100 * (ours / whole - 1)
    note = f"{ours:,} of {whole:,} B"
    return replace(row, ours_text=f"{saving:+.2f}%", value=saving, n=1, verdict="differs", note=note)


def _speed(study: Study) -> Row:
    """A step of LoRA against one of full fine-tuning, as `bench` timed them in turns."""
    row = Row("cost.speed", "  this classifier's", "+25%", "measured")
    costs: Sequence[Mapping[str, Any]] = study.bench["costs"] if study.bench else []
    ours = next((cost for cost in costs if cost["label"] == f"lora k={K}" and cost["speedup"]), None)
    if study.bench is None or ours is None:
        return replace(row, note="run lorabench bench")
    ratios = ours.get("ratios") or [ours["speedup"]]
    wide, narrow = (_scaled(inference.ratio(ratios, level), lambda x: 100 * (x - 1)) for level in LEVELS)
    noisy = any(cost.get("noisy") for cost in costs if cost["label"] in ("full", ours["label"]))
    note = f"a step of {study.bench['batch_size']} images, {study.bench['threads']} thread(s){', noisy' * noisy}"
    return replace(
        _answered(row, 25, wide, narrow), ours_text=_percent(wide, sign="+"), n=study.bench["rounds"], note=note
    )


def _memory(study: Study) -> Row:
    """The bytes that follow from the numbers of parameters."""
    row = Row("cost.memory", "  this classifier's state", "a third", "computed")
    if study.whole is None or study.trained is None:
        return row
    fp32 = scale.PRECISIONS["fp32"]
    ours = scale.training_bytes(study.trained.total, study.trained.trainable, fp32)
    whole = scale.training_bytes(study.whole.total, study.whole.total, fp32)
    share = 100 * ours / whole
    return replace(
        row,
        ours_text=f"{share:.2f}%",
        value=share,
        n=1,
        verdict="holds" if share <= 100 * scale.GPU_SHARE else "no",
        note=f"weights, gradients, Adam: {ours:,} of {whole:,} B",
    )


def _peak(study: Study) -> Row:
    """What the process took for training the LoRA, over what it took for its base, of which all is trained."""
    row = Row("cost.peak", "  this classifier's peak", "a third", "measured")
    trained = {run.id: run.cost.training_rss_bytes for run in study.runs if run.cost}
    runs = study.sized.runs if study.sized else ()
    pairs = [(trained.get(run.id), trained.get(run.parents.base or "")) for run in runs]
    both = [(ours, whole) for ours, whole in pairs if ours and whole]
    if not both:
        return row
    wide, narrow = (
        _scaled(inference.ratio([ours / whole for ours, whole in both], level), lambda x: 100 * x) for level in LEVELS
    )
    ours, whole = (sum(column) / len(both) / 1e6 for column in zip(*both, strict=True))
    note = f"{ours:,.0f} MB; {whole:,.0f} MB to train the base"
    return replace(_answered(row, 100 * scale.GPU_SHARE, wide, narrow), ours_text=_percent(wide), note=note)


def _other(method: str, label: str) -> Callable[[Study], Row]:
    def row(study: Study) -> Row:
        blank = Row(f"fmnist.{method}", label, "named", "measured")
        found = [arm for arm in study.arms if arm.method == method]
        arm = next((arm for arm in found if not _departures(study, arm)), None)
        if arm is None:
            other = f"here with {', '.join(_departures(study, found[0]))}" if found else "no run in this study"
            return replace(blank, note=other)
        return _measured(blank, None, _tuned_values(arm))

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
    _peak,
    _other("full", "full fine-tuning"),
    _other("adapter", "adapter layers"),
    _other("prompt", "prompt optimisation"),
)


def _base_values(study: Study, name: str) -> list[Count]:
    """Of the bases that were trained as the LoRA's were; without a LoRA, as the first was."""
    runs = [_on_the_talks_images(study, run) for run in study.runs if not run.holdout]
    found = [way for way in collect(runs).bases_by_recipe.values() if any(name in metrics for metrics in way.values())]
    arm = study.lora or study.sized
    own = (arm.runs[0].parents.base, arm.runs[0].parents.data) if arm else None
    chosen = next((way for way in found if own in way), found[0] if found else {})
    return [counted for metrics in chosen.values() if (counted := count(metrics, name))]


def _on_the_talks_images(study: Study, run: Run) -> Run:
    """The run without what was measured on another F-MNIST."""
    if run.stage == "fmnist" or not _images(study, run):
        return run
    metrics, before = (
        {name: found for name, found in both.items() if name != "fmnist"} for both in (run.metrics, run.before)
    )
    return run.model_copy(update={"metrics": metrics, "before": before})


def _tuned_values(arm: Setting) -> list[Count]:
    return [counted for run in arm.runs if (counted := count(run.metrics, "fmnist"))]


def _exact(row: Row, ours: int, talk: int) -> Row:
    return replace(row, ours_text=f"{ours:,}", value=ours, n=1, verdict="exact" if ours == talk else "differs")


def _measured(row: Row, talk: float | None, counts: Sequence[Count]) -> Row:
    """An accuracy beside the talk's, or beside none."""
    wide, narrow = (inference.accuracy(counts, level) for level in LEVELS)
    if wide is None or narrow is None:
        return row
    return replace(_answered(row, talk, wide, narrow), ours_text=number.estimate(wide), note=number.undecided(wide))


def _answered(row: Row, talk: float | None, wide: Estimate, narrow: Estimate) -> Row:
    """The row with our figure, and what follows for the talk's from its two intervals."""
    if talk is None:
        verdict: Verdict = "runs"
    elif wide.low is None or wide.high is None or narrow.low is None or narrow.high is None:
        verdict = "no verdict"
    elif talk - TOLERANCE <= narrow.low and narrow.high <= talk + TOLERANCE:
        verdict = "reproduced"
    else:
        verdict = "above" if wide.low > talk else "below" if wide.high < talk else "undecided"
    return replace(row, value=wide.mean, low=wide.low, high=wide.high, n=wide.n, verdict=verdict)


def _scaled(found: Estimate, by: Callable[[float], float]) -> Estimate:
    """An estimate in another unit."""
    low, high = (None if end is None else by(end) for end in (found.low, found.high))
    return replace(found, mean=by(found.mean), low=low, high=high)


def _percent(found: Estimate, sign: Literal["", "+"] = "") -> str:
    """`556% [430, 680]`."""
    ends = "" if found.low is None else f" [{found.low:{sign}.0f}, {found.high:{sign}.0f}]"
    return f"{found.mean:{sign}.0f}%{ends}"


def ledger(study_runs: Sequence[Run], bench: Mapping[str, Any] | None = None) -> list[Row]:
    """A row for every figure of the talk. `study_runs` holds the study's runs with their parents."""
    found = study(study_runs, bench, collect(study_runs).settings, base_run(study_runs))
    return [row(found) for row in ROWS]


_COUNTED = ("params.total", "params.trainable", "flipped.train", "flipped.test")
_BARE = (*_COUNTED, "lora.birth")
"""The rows that are not in percent."""
_DIGITS = 9
"""Decimals of a row's value that mean something: an image of 10,000, over 1,000 seeds, is 0.00001 percent."""


def check_keys(expectations: Mapping[str, Expectation], places: Mapping[str, str] | None = None) -> None:
    """Refuse an expectation of something that no ledger has, or in another unit than the ledger has it.

    Args:
        expectations: the key of a ledger row, to what is expected of it.
        places: who wrote what, as `config.Loaded.origins` has it.

    Raises:
        ConfigError: with a line for each; of an unknown key with the valid ones, the nearest first.
    """
    if not expectations:
        return
    known = [row.key for row in ledger([])]
    problems: list[str] = []
    for key, wanted in expectations.items():
        place = (places or {}).get(f"expect.{key}")
        nearest = sorted(known, key=lambda name: -difflib.SequenceMatcher(None, key, name).ratio())
        unknown = f"unknown key; known keys: {', '.join(nearest)}" if key not in known else None
        if problem := unknown or _wrong_unit(key, wanted):
            problems.append(f"{f'{place}  ' if place else ''}expect.{key}  {problem}")
    if problems:
        raise ConfigError(problems)


def check(expectations: Mapping[str, Expectation], rows: Sequence[Row]) -> list[str]:
    """A line for each expectation that does not hold; none if all do.

    Args:
        expectations: the key of a ledger row, to a value in that row's unit and its tolerance.
        rows: the ledger. A row without a value, such as one that nothing measured, holds no expectation.

    Raises:
        ConfigError: as `check_keys`.
    """
    check_keys(expectations)
    known = {row.key: row for row in rows}
    return [line for key, wanted in expectations.items() if (line := _unmet(wanted, known[key]))]


def _wrong_unit(key: str, wanted: Expectation) -> str | None:
    value, percent = _figure(wanted.value), key not in _BARE
    written = f"{float(value):.10g}"
    if not percent and (isinstance(wanted.value, str) or isinstance(wanted.tolerance, str)):
        return "is not measured in percent; write numbers without %"
    if percent and not isinstance(wanted.value, str) and 0 < abs(value) <= 1:
        return f"{written}: is measured in percent; write {written}% or {float(100 * value):.10g}%"
    if key in _COUNTED and value.denominator != 1:
        return f"{written}: is a count; write a whole number"
    return None


def _unmet(wanted: Expectation, row: Row) -> str | None:
    value, tolerance = _figure(wanted.value), _figure(wanted.tolerance)
    sign = "" if row.key in _BARE else "%"
    points = f" point{'' if tolerance == 1 else 's'}" if sign else ""
    within = f" within {float(tolerance):g}{points}" if tolerance else ""
    expected = f"{row.key}  expected {float(value):,.10g}{sign}{within}"
    if row.value is None:
        return f"{expected}, and nothing measured it"
    if abs(Fraction(repr(round(row.value, _DIGITS))) - value) <= tolerance:
        return None
    return f"{expected}, got {row.value:,.10g}{sign}"


def _figure(given: float | str) -> Fraction:
    """In the unit of the row: 97.74 for `97.74%` and for 97.74."""
    return Fraction(given.removesuffix("%") if isinstance(given, str) else repr(given))
