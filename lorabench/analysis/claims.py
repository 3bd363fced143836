"""Every figure that the talk quotes, how the runs of a study answer it, and whether a config's `expect:` holds.

`CLAIMS` lists them in the order of the table: what the talk says, as it prints it, and how ours is counted, measured or
computed from the run records. A new claim is an entry there.

A claim is answered by runs in the talk's setting and by no others: LoRA of k = 4 on all three layers, A from N(0, 1),
its part not scaled, for F-MNIST with 30% of the twos and threes mirrored left to right, measured on the test set. How
long and how fast one trains the talk does not say, so that any recipe may answer.

    expect: {params.total: 235146, fmnist.tuned: {value: 97.74%, tolerance: 0.8%}}

An expected figure is in the unit of its row: percent, with the sign or without it, or a number without a unit.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, Literal, NamedTuple

from lorabench import scale
from lorabench.analysis import inference, measured, number
from lorabench.analysis.inference import Estimate
from lorabench.analysis.quantities import count
from lorabench.analysis.settings import Collection, Setting, collect, featured_setting
from lorabench.classifier import CLASSIFIER
from lorabench.config import Expectation
from lorabench.errors import ConfigError
from lorabench.runs import Metrics, Params, Run

Verdict = (
    Literal["exact", "rounds to 3%", "differs"]  # of what is counted
    | Literal["reproduced", "above", "below", "undecided", "no verdict"]  # of what is measured
    | Literal["holds", "possible", "no", "unknown"]  # of what is computed
    | Literal["runs", "not run here"]
)
Source = Literal["counted", "measured", "computed"]
TOLERANCE = 0.5
"""Points from the talk's figure within which a whole interval must lie to have reproduced it."""
LEVELS = 0.95, 0.90
"""Of the interval that excludes the talk's figure or not, and of the one that must lie within `TOLERANCE` of it.

That the second is narrower is the usual test of equivalence: two one-sided tests at 5%. Schuirmann, J. Pharmacokinetics
and Biopharmaceutics 15, 1987.
"""
TALKS_FMNIST: Mapping[str, Any] = {"shift": "mirror", "fraction": 0.3, "classes": [2, 3], "axis": "horizontal"}
"""The settings of the talk's F-MNIST; which images of a digit are mirrored it does not say."""
K = 4
"""The rank of the talk's LoRA."""


@dataclass(frozen=True)
class Row:
    """A figure of the talk, as it prints it, and ours, as text and as a number in the claim's unit.

    `low` and `high` are a 95% interval; `n` is the number of runs behind them. Without a value nothing answers the
    claim; `note` may then say what was run instead.
    """

    key: str
    label: str
    talk: str
    source: Source
    ours_text: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    verdict: Verdict = "not run here"
    note: str = ""

    def answered(self, text: str, value: float, verdict: Verdict, *, n: int = 1, note: str = "") -> Row:
        """With a figure that has no interval."""
        return replace(self, ours_text=text, value=value, verdict=verdict, n=n, note=note)

    def instead(self, departures: Sequence[str]) -> Row:
        """Without a figure: what there is departs from the talk's setting."""
        return replace(self, note=f"here with {', '.join(departures)}")


class Claim(NamedTuple):
    """One figure of the talk, `talk` as it prints it.

    Attributes:
        source: how our figure is found.
        answer: the row with our figure, from the empty row and a study; None if the study has no run for it.
        unit: of the row's numbers.
    """

    key: str
    label: str
    talk: str
    source: Source
    answer: Callable[[Row, Evidence], Row | None]
    unit: Literal["percent", "count", "number"] = "percent"


def ledger(
    study_runs: Sequence[Run],
    bench: Mapping[str, Any] | None = None,
    measurement: Mapping[str, Any] | None = None,
) -> list[Row]:
    """A row for every figure of the talk.

    Args:
        study_runs: the study's runs with their parents.
        bench: what the last bench measured.
        measurement: what the last `scale --measure` measured.
    """
    study = Evidence(collect(study_runs), bench, measurement)
    rows = [Row(claim.key, claim.label, claim.talk, claim.source) for claim in CLAIMS]
    return [claim.answer(row, study) or row for claim, row in zip(CLAIMS, rows, strict=True)]


@dataclass(frozen=True)
class Evidence:
    """The runs of a study with their parents, and what was measured last."""

    runs: Collection
    bench: Mapping[str, Any] | None
    measurement: Mapping[str, Any] | None

    @property
    def whole(self) -> int | None:
        """The base's parameters."""
        base = self.runs.base
        return base.params.total if base and base.params else None

    @property
    def trained(self) -> Params | None:
        """Parameters of the LoRA of the talk's size, the same for each of its seeds."""
        return self.sized.runs[0].params if self.sized else None

    @cached_property
    def fmnists(self) -> list[Run]:
        """The runs of F-MNIST, the most like the talk's first."""
        done = [run for run in self.runs if run.stage == "fmnist" and run.status == "done"]
        return sorted(done, key=lambda run: len(_data(run)))

    @cached_property
    def sized(self) -> Setting | None:
        """The LoRA of the talk's size, on whatever images."""
        return featured_setting([setting for setting in self.of("lora") if not _size(setting.runs[0])])

    @cached_property
    def lora(self) -> Setting | None:
        """The LoRA that is the talk's in all, on the talk's images."""
        return featured_setting([setting for setting in self.of("lora") if not self.departures(setting)])

    def of(self, method: str) -> list[Setting]:
        """The settings of a method."""
        return [setting for setting in self.runs.settings if setting.method == method]

    def images(self, run: Run) -> list[str]:
        """How the F-MNIST that a run was measured on departs from the talk's."""
        return _data(next((data for data in self.fmnists if data.id == run.parents.data), None))

    def departures(self, setting: Setting) -> list[str]:
        """How a setting departs from what the talk says of its method, as words such as `k=8`.

        Of others than these two methods the talk says the name alone.
        """
        run = setting.runs[0]
        init, alpha = run.settings.get("init"), run.settings.get("alpha")
        # With alpha = k the factor is 1.
        scaled = alpha is not None and alpha != run.k
        layer = [*([f"init={init}"] if init != "talk" else []), *([f"alpha={alpha:g}"] if scaled else [])]
        own = {"lora": [*_size(run), *layer], "full": _targets(run)}.get(setting.method, [])
        return [*own, *self.images(run)]


def _size(run: Run) -> list[str]:
    return [*([f"k={run.k}"] if run.k != K else []), *_targets(run)]


def _targets(run: Run) -> list[str]:
    targets = run.settings.get("targets") or list(CLASSIFIER)
    return [f"targets={','.join(targets)}"] if set(targets) != set(CLASSIFIER) else []


def _data(run: Run | None) -> list[str]:
    """How an F-MNIST departs from the talk's; another shift need not have an option of the talk's."""
    if run is None:
        return ["an F-MNIST of which no run is there"]
    settings = {**run.settings, "classes": sorted(run.settings["classes"])}
    held_out = [f"holdout={run.holdout}"] if run.holdout else []
    return held_out + [
        f"{key}={','.join(map(str, value)) if key == 'classes' else value}"
        for key, talk in TALKS_FMNIST.items()
        if (value := settings.get(key, talk)) != talk
    ]


def _parameters(row: Row, study: Evidence) -> Row | None:
    """A number that the talk prints in full."""
    ours = study.whole if row.key == "params.total" else study.trained and study.trained.trainable
    return row.answered(f"{ours:,}", ours, "exact" if f"{ours:,}" == row.talk else "differs") if ours else None


def _flipped(row: Row, study: Evidence) -> Row | None:
    split = row.key.partition(".")[2]
    run = next(iter(study.fmnists), None)
    if run is None or split not in run.checks:
        return None
    if departures := _data(run):
        return row.instead(departures)
    images, flipped = run.checks[split]["images"], run.checks[split]["flipped"]
    talks = [round(0.3 * count) if digit in (2, 3) else 0 for digit, count in enumerate(images)]
    affected = sum(count for digit, count in enumerate(images) if flipped[digit])
    parts = " + ".join(f"{count:,}" for count in flipped if count)
    text = f"{parts}, {100 * sum(flipped) / affected:.2f}%" if affected else "none"
    return row.answered(text, sum(flipped), "exact" if flipped == talks else "differs")


def _share(row: Row, study: Evidence) -> Row | None:
    if study.whole is None or study.trained is None:
        return None
    share = 100 * study.trained.trainable / study.whole
    return row.answered(f"{share:.2f}%", share, "rounds to 3%" if round(share) == 3 else "differs")


def _base(row: Row, study: Evidence) -> Row | None:
    """Of the bases that were trained as the LoRA's were; without a LoRA, as the first was.

    What was measured on another F-MNIST than the talk's is left out.
    """
    name = row.key.partition(".")[0]

    def comparable(run: Run) -> Run:
        if run.stage == "fmnist" or not study.images(run):
            return run
        measured = {"metrics": run.metrics, "before": run.before}
        mnist = {what: {key: sets[key] for key in sets if key != "fmnist"} for what, sets in measured.items()}
        return run.model_copy(update=mnist)

    by_recipe = collect(comparable(run) for run in study.runs if not run.holdout).bases_by_recipe
    recipes = [bases for bases in by_recipe.values() if any(name in metrics for metrics in bases.values())]
    setting = study.lora or study.sized
    own = (setting.runs[0].parents.base, setting.runs[0].parents.data) if setting else None
    chosen = next((bases for bases in recipes if own in bases), recipes[0] if recipes else {})
    return _accuracy(row, chosen.values(), name, float(row.talk))


def _tuned(row: Row, study: Evidence) -> Row | None:
    if study.lora is None:
        other = featured_setting(study.of("lora"))
        return row.instead(study.departures(other)) if other else None
    return _accuracy(row, [run.metrics for run in study.lora.runs], "fmnist", float(row.talk))


def _other(row: Row, study: Evidence) -> Row | None:
    """The accuracy of another method, beside none of the talk's."""
    settings = study.of(row.key.partition(".")[2])
    setting = next((setting for setting in settings if not study.departures(setting)), None)
    if setting is None:
        return row.instead(study.departures(settings[0])) if settings else replace(row, note="no run in this study")
    return _accuracy(row, [run.metrics for run in setting.runs], "fmnist", None)


def _unchanged(row: Row, study: Evidence) -> Row | None:
    """Whether adding the LoRA changes the logits before it is trained."""
    runs = study.lora.runs if study.lora else ()
    checked = [run.checks for run in runs if "max_logit_change_at_birth" in run.checks]
    if not checked:
        return None
    change = max(float(checks["max_logit_change_at_birth"]) for checks in checked)
    same = change == 0 and all(checks.get("frozen_unchanged") for checks in checked)
    text = f"change by up to {change:.1g}" if change else "the same"
    return row.answered(text, change, "exact" if same else "differs", n=len(checked))


def _gpt3(row: Row, study: Evidence) -> Row:
    """By arithmetic alone, so of no run: LoRA on the query and value matrices, in 2 bytes; `scale` shows all of it."""
    case = scale.project("gpt3-175b", "lora", {"k": K})
    tuned, full, (before, after) = case.tuned, case.full, scale.PAPER_SPEED
    claim = next(claim for claim in scale.claims(case) if row.key == f"gpt3.{claim.key}")
    ours = claim.value or 0
    if claim.key == "checkpoint":
        value, form, here = -100 * ours, "{:+.2f}%", "{:+.2%}"
        note = f"{scale.size(tuned.checkpoint_bytes)} of {scale.size(full.checkpoint_bytes)}"
    elif claim.key == "speed":
        value, form, here = 100 / (1 - ours) - 100, "up to {:+.0f}%", "{:+.0%} time"
        note = f"multiply-adds; quoted from the paper: {after / before - 1:+.0%}"
    else:
        value, form, here = 100 * ours, "{:.2f}%", "{:.0%} of the memory"
        note = f"{tuned.gpus} of {full.gpus} of {tuned.gpu_gb} GB, at {tuned.precision.name}"
    record = study.measurement
    if (measured_here := _measured(claim.key, record)) is not None and record:
        note += f"; measured on {record['architecture']}: {here.format(measured_here)}"
    return row.answered(form.format(value), value, claim.verdict, n=0, note=note)


def _measured(key: str, record: Mapping[str, Any] | None) -> float | None:
    """What a clock and a scale say of a smaller language model, or of some blocks."""
    if record is None or record["architecture"] not in scale.ARCHITECTURES:
        return None
    if (record["method"], record["options"].get("k"), record["targets"]) != ("lora", K, ["q", "v"]):
        return None
    return next(claim.measured for claim in measured.claims(record) if claim.key == key)


def _checkpoint(row: Row, study: Evidence) -> Row | None:
    ours = study.sized and study.sized.runs[0].checkpoint_bytes
    base = study.runs.base
    if not ours or base is None or not base.checkpoint_bytes:
        return None
    saving = 100 * (ours / base.checkpoint_bytes - 1)
    return row.answered(f"{saving:+.2f}%", saving, "differs", note=f"{ours:,} of {base.checkpoint_bytes:,} B")


def _speed(row: Row, study: Evidence) -> Row:
    """A step of LoRA against one of full fine-tuning, as `bench` timed them in turns."""
    costs: Sequence[Mapping[str, Any]] = study.bench["costs"] if study.bench else []
    ours = next((cost for cost in costs if cost["label"] == f"lora k={K}" and cost["speedup"]), None)
    if study.bench is None or ours is None:
        return replace(row, note="run lorabench bench")
    noisy = any(cost.get("noisy") for cost in costs if cost["label"] in ("full", ours["label"]))
    note = f"a step of {study.bench['batch_size']} images, {study.bench['threads']} thread(s){', noisy' * noisy}"
    answer = _ratio(row, ours.get("ratios") or [ours["speedup"]], 25, lambda ratio: 100 * (ratio - 1), "+")
    return replace(answer, n=study.bench["rounds"], note=note)


def _memory(row: Row, study: Evidence) -> Row | None:
    """The bytes that follow from the numbers of parameters."""
    if study.whole is None or study.trained is None:
        return None
    fp32 = scale.PRECISIONS["fp32"]
    ours = scale.training_bytes(study.trained.total, study.trained.trainable, fp32)
    whole = scale.training_bytes(study.whole, study.whole, fp32)
    share = 100 * ours / whole
    verdict = "holds" if share <= 100 * scale.GPU_SHARE else "no"
    return row.answered(f"{share:.2f}%", share, verdict, note=f"weights, gradients, Adam: {ours:,} of {whole:,} B")


def _peak(row: Row, study: Evidence) -> Row | None:
    """What the process took for training the LoRA, over what it took for its base, of which all is trained."""
    trained = {run.id: run.cost.training_rss_bytes for run in study.runs if run.cost}
    runs = study.sized.runs if study.sized else ()
    pairs = [(trained.get(run.id), trained.get(run.parents.base or "")) for run in runs]
    both = [(ours, whole) for ours, whole in pairs if ours and whole]
    if not both:
        return None
    ours, whole = (sum(column) / len(both) / 1e6 for column in zip(*both, strict=True))
    answer = _ratio(row, [ours / whole for ours, whole in both], 100 * scale.GPU_SHARE, lambda ratio: 100 * ratio)
    return replace(answer, note=f"{ours:,.0f} MB; {whole:,.0f} MB to train the base")


def _accuracy(row: Row, seeds: Iterable[Mapping[str, Metrics]], name: str, talk: float | None) -> Row | None:
    counts = [count(metrics, name) for metrics in seeds]
    wide, narrow = (inference.accuracy(counts, level) for level in LEVELS)
    if wide is None or narrow is None:
        return None
    return replace(_judged(row, number.estimate(wide), wide, narrow, talk), note=number.undecided(wide))


def _ratio(
    row: Row, ratios: Sequence[float], talk: float, percent: Callable[[float], float], sign: Literal["", "+"] = ""
) -> Row:
    """Ratios of which `percent` makes the talk's unit: `556% [430, 680]`."""

    def scaled(estimate: Estimate) -> Estimate:
        low, high = (None if end is None else percent(end) for end in (estimate.low, estimate.high))
        return replace(estimate, mean=percent(estimate.mean), low=low, high=high)

    wide, narrow = (scaled(inference.ratio(ratios, level)) for level in LEVELS)
    ends = "" if wide.low is None else f" [{wide.low:{sign}.0f}, {wide.high:{sign}.0f}]"
    return _judged(row, f"{wide.mean:{sign}.0f}%{ends}", wide, narrow, talk)


def _judged(row: Row, text: str, wide: Estimate, narrow: Estimate, talk: float | None) -> Row:
    """Our figure, and what follows for the talk's from its intervals of both `LEVELS`."""
    if talk is None:
        verdict: Verdict = "runs"
    elif wide.low is None or wide.high is None or narrow.low is None or narrow.high is None:
        verdict = "no verdict"
    elif talk - TOLERANCE <= narrow.low and narrow.high <= talk + TOLERANCE:
        verdict = "reproduced"
    else:
        verdict = "above" if wide.low > talk else "below" if wide.high < talk else "undecided"
    return replace(row, ours_text=text, value=wide.mean, low=wide.low, high=wide.high, n=wide.n, verdict=verdict)


CLAIMS = (
    Claim("params.total", "classifier's parameters", "235,146", "counted", _parameters, "count"),
    Claim("mnist.base", "accuracy on MNIST", "97.78", "measured", _base),
    Claim("flipped.train", "2s and 3s mirrored, train", "30%", "counted", _flipped, "count"),
    Claim("flipped.test", "2s and 3s mirrored, test", "30%", "counted", _flipped, "count"),
    Claim("fmnist.base", "accuracy on F-MNIST", "92.87", "measured", _base),
    Claim("params.trainable", f"trained by LoRA k = {K}", "6,248", "counted", _parameters, "count"),
    Claim("params.share", "  of the classifier's", "3%", "counted", _share),
    Claim("fmnist.tuned", f"F-MNIST after LoRA k = {K}", "97.74", "measured", _tuned),
    Claim("lora.birth", "logits when LoRA is added", "the same", "measured", _unchanged, "number"),
    Claim("gpt3.checkpoint", "GPT-3: size of a checkpoint", "-99.99%", "computed", _gpt3),
    Claim("cost.checkpoint", "  this classifier's", "-99.99%", "counted", _checkpoint),
    Claim("gpt3.speed", "GPT-3: speed of training", "+25%", "computed", _gpt3),
    Claim("cost.speed", "  this classifier's", "+25%", "measured", _speed),
    Claim("gpt3.gpus", "GPT-3: GPUs to train on", "a third", "computed", _gpt3),
    Claim("cost.memory", "  this classifier's state", "a third", "computed", _memory),
    Claim("cost.peak", "  this classifier's peak", "a third", "measured", _peak),
    Claim("fmnist.full", "full fine-tuning", "named", "measured", _other),
    Claim("fmnist.adapter", "adapter layers", "named", "measured", _other),
    Claim("fmnist.prompt", "prompt optimisation", "named", "measured", _other),
)
"""An answer reads from the key of its row which test set, split or method it is about."""

_UNITS = {claim.key: claim.unit for claim in CLAIMS}
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
    problems = [
        f"{f'{place}  ' if (place := (places or {}).get(f'expect.{key}')) else ''}expect.{key}  {problem}"
        for key, wanted in expectations.items()
        if (problem := _problem(key, wanted))
    ]
    if problems:
        raise ConfigError(problems)


def _problem(key: str, wanted: Expectation) -> str | None:
    if key not in _UNITS:
        nearest = sorted(_UNITS, key=lambda name: -difflib.SequenceMatcher(None, key, name).ratio())
        return f"unknown key; known keys: {', '.join(nearest)}"
    value, unit = _figure(wanted.value), _UNITS[key]
    written = f"{float(value):.10g}"
    if unit != "percent" and (isinstance(wanted.value, str) or isinstance(wanted.tolerance, str)):
        return "is not measured in percent; write numbers without %"
    if unit == "percent" and not isinstance(wanted.value, str) and 0 < abs(value) <= 1:
        return f"{written}: is measured in percent; write {written}% or {float(100 * value):.10g}%"
    if unit == "count" and value.denominator != 1:
        return f"{written}: is a count; write a whole number"
    return None


def check(expectations: Mapping[str, Expectation], rows: Sequence[Row]) -> list[str]:
    """A line for each expectation that does not hold; none if all do.

    Args:
        expectations: the key of a ledger row, to a value in that row's unit and its tolerance; see `check_keys`.
        rows: the ledger. A row without a value, such as one that nothing measured, holds no expectation.
    """
    known = {row.key: row for row in rows}
    return [line for key, wanted in expectations.items() if (line := _unmet(wanted, known[key]))]


def _unmet(wanted: Expectation, row: Row) -> str | None:
    value, tolerance = _figure(wanted.value), _figure(wanted.tolerance)
    sign = "%" if _UNITS[row.key] == "percent" else ""
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
