"""`run.json` as data: what a run was asked for, made from, gave and took."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

SCHEMA = 1
ID = re.compile(r"[a-z][a-z0-9-]{0,80}-s\d{1,10}-[0-9a-f]{8,64}")
DIGITS, EARLIER_DIGITS = 12, 8
"""How many digits of its hash an id has, and how many it had when lorabench was young."""
MAX_RECORD_BYTES = 1_000_000
MAX_FILE_BYTES = 1_000_000_000
MAX_HISTORY_BYTES = 5_000_000
MAX_VALUES = 500
"""Of the settings, the checks and the environment of a run together; a study's have 75."""
_CONTROL = re.compile(rb"(?<!\\)(?:\\\\)*\\u00(?:[01][0-9a-f]|7f|[89][0-9a-f])|\xc2[\x80-\x9f]", re.IGNORECASE)
"""JSON for characters that steer a terminal, line ends and tabs excepted."""

ROUNDING = 1e-9
"""How far an accuracy may be from the counts: another program may have written fewer digits of it."""

LARGEST = 1e300

Whole = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Ten = Annotated[list[Whole], Field(min_length=10, max_length=10)]
TestSet = Annotated[str, Field(pattern="^f?mnist$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _time(value: str) -> str:
    if value:
        datetime.fromisoformat(value)
    return value


Time = Annotated[str, AfterValidator(_time)]
"""ISO 8601, or nothing."""

IMPORTED = "tensors_sha256"
"""Settings key of an imported base or adapter: SHA-256 of its tensors, in place of a training recipe."""


class Record(BaseModel):
    """A frozen part of `run.json`. Unknown fields of a later minor version are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Parents(Record):
    """Ids of the runs that this one was made from."""

    base: str | None = None
    data: str | None = None


class Params(Record):
    """Numbers of parameters."""

    total: Annotated[Whole, Field(ge=1)]
    trainable: Annotated[Whole, Field(ge=1)]
    frozen: Whole


def _hold(accuracy: float | None, correct: int, n: int) -> None:
    """Refuse an accuracy that is not what the counts say."""
    if (accuracy is None) != (n == 0) or (accuracy is not None and abs(accuracy - correct / n) > ROUNDING):
        raise ValueError(f"the accuracy {accuracy} is not {correct:,} of {n:,}")


class Slice(Record):
    """Accuracy on some of the test images; `accuracy` is a fraction, None if there are no images."""

    n: Whole
    correct: Whole
    accuracy: Share | None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.correct > self.n:
            raise ValueError("more images are right than there are")
        _hold(self.accuracy, self.correct, self.n)
        return self


class Metrics(Record):
    """One model on one test set. `confusion[t][p]` counts images of `t` taken for `p`; `loss` is in nats."""

    n: Annotated[Whole, Field(ge=1)]
    correct: Whole
    accuracy: Share
    loss: Amount
    confusion: Annotated[list[Ten], Field(min_length=10, max_length=10)]
    slices: dict[str, Slice] = Field(default_factory=dict[str, Slice])

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        """Every count and share follows from the confusion matrix, and the slices are its images once more."""
        if sum(map(sum, self.confusion)) != self.n:
            raise ValueError("the confusion matrix does not count the images that there are")
        if sum(row[digit] for digit, row in enumerate(self.confusion)) != self.correct:
            raise ValueError("the confusion matrix counts other images as right")
        _hold(self.accuracy, self.correct, self.n)
        parts = self.slices.values()
        if parts and (sum(p.n for p in parts), sum(p.correct for p in parts)) != (self.n, self.correct):
            raise ValueError("the slices do not add up to the images that there are, or that are right")
        return self


class Cost(Record):
    """What a run took.

    Attributes:
        train_s: seconds in the training loop; `wall_s`: for everything.
        rss_before_bytes: memory that the process held when training began; None if that is not known, as in runs that
            have been made before it was measured.
        peak_rss_bytes: the most that it held while the run trained; without `rss_before_bytes`, in all its life until
            then, whatever it had made before.
    """

    train_s: Amount
    wall_s: Amount
    steps: Whole
    step_ms: Amount
    images_per_s: Amount
    peak_rss_bytes: Whole | None
    rss_before_bytes: Whole | None = None

    @property
    def training_rss_bytes(self) -> int | None:
        """Measured: the most memory that training took, beside what the process held before; None if not known."""
        if self.peak_rss_bytes is None or self.rss_before_bytes is None:
            return None
        return max(0, self.peak_rss_bytes - self.rss_before_bytes)


class Epoch(Record):
    """A line of `history.jsonl`: mean training loss (nats), training accuracy (a fraction), last learning rate."""

    epoch: Whole
    loss: Amount
    accuracy: Share
    lr: Amount
    seconds: Amount


class Failure(Record):
    """Why a run did not finish."""

    type: str
    message: str


class Census(Record):
    """What F-MNIST's run says of a split: images and changed images of each digit, and a hash of the images."""

    images: Ten
    flipped: Ten
    sha256: Sha256


class Change(Record):
    """What a fine-tune's run says of a layer, as `spectrum.Spectrum`."""

    frobenius: Amount
    stable_rank: Amount
    rank90: Whole


class Checks(Record):
    """The facts in `Run.checks` that lorabench reads again."""

    max_logit_change_at_birth: Amount = 0
    frozen_unchanged: bool = True
    delta_w: dict[str, Change] = Field(default_factory=dict[str, Change])


class Recipe(Record):
    """The settings of a trained run that are read again."""

    lr: Amount | None = None
    epochs: Whole | None = None
    batch_size: Whole | None = None


class Shift(Record):
    """The settings of F-MNIST's run that are read again; `axis` is of the shift that mirrors."""

    fraction: Share
    classes: Annotated[list[Annotated[int, Field(ge=0, le=9)]], Field(min_length=1)]
    axis: str | None = None
    seed: Whole


class Run(Record):
    """One `run.json`."""

    schema_: Literal[1] = Field(default=SCHEMA, alias="schema")
    id: str
    stage: Literal["pretrain", "fmnist", "finetune"]
    method: str | None = None
    k: Whole | None = None
    seed: Whole
    study: str | None = None
    status: Literal["running", "done", "failed", "interrupted"] = "running"
    parents: Parents = Parents()
    params: Params | None = None
    checkpoint_bytes: Whole | None = None
    metrics: dict[TestSet, Metrics] = Field(default_factory=dict[str, Metrics])
    before: dict[TestSet, Metrics] = Field(default_factory=dict[str, Metrics])
    """For a fine-tuned run: its base on the same test images."""
    holdout: Whole = 0
    """So many images of the training set were held out, and all was measured on them; 0: on the test set."""
    reuse: bool = True
    """Of a fine-tune: whether what is frozen was computed once, as `Config.reuse` says; the last bits depend on it."""
    mnist: Sha256 | None = None
    """Which MNIST: the hash of its four files' hashes. None in records of an earlier lorabench."""
    checks: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Facts that the run verified about itself, such as the logits' change at birth."""
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """The settings that the run reads: what its id's hash is made of."""
    cost: Cost | None = None
    env: dict[str, Any] = Field(default_factory=dict[str, Any])
    started: Time = ""
    ended: Time | None = None
    error: Failure | None = None
    files: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")], Sha256] = Field(
        default_factory=dict[str, str]
    )
    maker: str | None = None
    """While it is running: the process that makes it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _holds_what_is_read_again(self) -> Self:
        if self.stage != "fmnist":
            Checks.model_validate(self.checks, strict=True)
            Recipe.model_validate(self.settings, strict=True)
        elif self.checks or self.status == "done":
            TypeAdapter(dict[Literal["train", "test"], Census]).validate_python(self.checks, strict=True)
            Shift.model_validate(self.settings, strict=True)
        return self

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        """What may hold anything holds so many numbers and words, and no number that JSON or a float has not."""
        waiting, count = [self.settings, self.checks, self.env], 0
        while waiting:
            value: Any = waiting.pop()
            count += 1
            if isinstance(value, dict | list):
                parts = cast("dict[str, Any] | list[Any]", value)
                waiting.extend(parts.values() if isinstance(parts, dict) else parts)
            elif isinstance(value, int | float) and not abs(value) <= LARGEST:
                raise ValueError("a setting, a check or the environment holds a number that is none, or too large")
            if count + len(waiting) > MAX_VALUES:
                raise ValueError(f"more than {MAX_VALUES:,} settings, checks and facts of the environment")
        return self

    @property
    def label(self) -> str:
        """What a table calls this run, without its seed and hash: `lora-k4`."""
        return self.id.rsplit("-s", 1)[0]


def steers(content: bytes) -> bool:
    """Whether a record's JSON holds characters that steer a terminal. Two quick looks spare most the slow one."""
    return (rb"\u00" in content or b"\xc2" in content) and bool(_CONTROL.search(content))


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def make_id(label: str, seed: int, inputs: Mapping[str, Any], **parents: str) -> str:
    """`<label>-s<seed>-<hash>`, the hash taken of `inputs` and of the ids of the `parents`, as canonical JSON.

    It begins with the digits that it had when ids, those of parents too, had 8: so `earlier` knows its older folders.
    """
    now = _digest({**inputs, **parents})
    then = _digest({**inputs, **{name: earlier(parent) for name, parent in parents.items()}})
    return f"{label}-s{seed}-{then[:EARLIER_DIGITS]}{now[EARLIER_DIGITS:DIGITS]}"


def earlier(run_id: str) -> str:
    """The id that the run had when ids had 8 digits."""
    head, _, digits = run_id.rpartition("-")
    return f"{head}-{digits[:EARLIER_DIGITS]}"


def _digest(inputs: Mapping[str, Any]) -> str:
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
