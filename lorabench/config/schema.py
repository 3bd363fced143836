"""Every setting that lorabench knows, with its type, its range and its default. Frozen: a config never changes.

A method's own options (`k`, `init`, ...) stand in the `finetune` section beside the settings that all methods have: the
section of a method is `Finetune` and the options that the registry declares for it, one model, and so what a user
writes, what an id is made of and what the method gets have one shape. The same for the entries of a study.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SerializeAsAny, field_validator
from pydantic_core import PydanticCustomError

from lorabench.data import shifts
from lorabench.data.shifts.contract import Fraction, Seed, distinct
from lorabench.methods.entry import came_later
from lorabench.methods.registry import METHODS

Positive = Annotated[float, Field(gt=0, le=1e15)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Layer = Literal["fc1", "fc2", "fc3"]


def nearest(word: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """How a message about the unknown `word` ends: with the name that it may stand for, or with all of a list."""
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known keys: {', '.join(names)}" if names and isinstance(names, list) else ""


def parse_seeds(text: str) -> tuple[int, ...]:
    """`"0-4"`, `"3"` or `"0-2,7"` as the seeds that it names, in order.

    Raises:
        ValueError: not of that form, a range that runs downwards, a seed twice, or more than 10,000 seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:\s*-\s*(\d{1,10}))?\s*", part, re.ASCII)
        if not match:
            raise ValueError(f'"{text}" is no list of seeds; write for example 0-4 or 0,1,2')
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f'the range "{part.strip()}" runs downwards; did you mean {last}-{first}?')
        if last - first >= 10_000:
            raise ValueError(f'"{part.strip()}" names more than 10,000 seeds')
        seeds.extend(range(first, last + 1))
    return tuple(seeds)


def _seed_list(value: Any) -> Any:
    if isinstance(value, str):
        return parse_seeds(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _words(value: Any) -> Any:
    return tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else _as_tuple(value)


Targets = Annotated[tuple[Layer, ...], BeforeValidator(_words), AfterValidator(distinct), Field(min_length=1)] | None


Fmnist = Annotated[SerializeAsAny[shifts.ShiftOptions], BeforeValidator(shifts.parse)]
"""Which images F-MNIST changes, and how: the options of the shift that `shift` names, by default `mirror`."""


class Section(BaseModel):
    """A frozen group of settings; unknown keys are errors, and a value of the wrong type is never converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Pretrain(Section):
    """How the base learns MNIST. `warmup` is the share of all steps in which the learning rate rises to `lr`."""

    epochs: Count = 3
    batch_size: Annotated[int, Field(ge=1, le=60_000)] = 256
    lr: Positive = 0.015
    warmup: Fraction = 0.2
    seed: Seed | None = None


def _known(method: Any) -> Any:
    if isinstance(method, str) and method in METHODS:
        return method
    near = nearest(str(method), METHODS) or f"; known: {', '.join(METHODS)}"
    named = {"name": json.dumps(method, default=str), "near": near}
    raise PydanticCustomError("no_method", "no method is called {name}{near}", named)


MethodName = Annotated[str, BeforeValidator(_known)]


class MethodSection(Section):
    """Settings of a fine-tune; `parse` gives the section of a method, which has the method's own options too."""

    method: MethodName
    targets: Targets = None

    @classmethod
    def of(cls, method: Any) -> type[Self]:
        """The model of this section for `method`; of what is no method's name, the section alone."""
        return _with_options(cls, METHODS[method].model) if isinstance(method, str) and method in METHODS else cls

    @classmethod
    def parse(cls, values: Any) -> Any:
        """Settings as the section of the method that they name; what is no mapping stays.

        Raises:
            ValidationError: there is no such method, or it has other options.
        """
        if not isinstance(values, dict):
            return values
        settings = cast("dict[str, Any]", values)
        model = cls.of(settings.get("method", "lora"))
        if model is cls:  # nobody knows whose the other keys are
            settings = {key: value for key, value in settings.items() if key in cls.model_fields}
        return model.model_validate(settings)

    @property
    def options(self) -> dict[str, Any]:
        """The method's own settings, complete."""
        return {key: getattr(self, key) for key in METHODS[self.method].options}

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which could not import the model of a method."""
        section = Finetune if isinstance(self, Finetune) else Entry
        return section.parse, (self.model_dump(),)


@functools.cache
def _with_options(section: type[Any], options: type[BaseModel]) -> Any:
    """`section`, and after its settings those of `options`."""
    return type(section.__name__, (options, section), {"__module__": __name__, "__doc__": section.__doc__})


class Finetune(MethodSection):
    """How a method repairs the base. `lr: null` is the method's own."""

    method: MethodName = "lora"
    epochs: Count = 4
    batch_size: Annotated[int, Field(ge=1, le=60_000)] = 256
    lr: Positive | None = None
    warmup: Fraction = 0.2
    seed: Seed | None = None


class Entry(MethodSection):
    """One fine-tuning method of a study; `targets` and `lr` as in `Finetune`.

    Epochs, batch size, warm-up and seed are those of the finetune section for all of them: a comparison is fair only
    over equal steps in an equal order.
    """

    lr: Positive | None = None


def hashed(settings: BaseModel) -> dict[str, Any]:
    """Settings as ids and records have them: without those at a default that came later.

    A setting that came later says so, `Field(json_schema_extra={"since": VERSION})`: what was made before has no word
    of it and stays what it is.
    """
    late = {name: field.default for name, field in type(settings).model_fields.items() if came_later(field)}
    values = settings.model_dump(mode="json")
    return {key: value for key, value in values.items() if key not in late or value != late[key]}


def _no_device(name: str) -> str:
    if re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name, re.IGNORECASE):
        raise PydanticCustomError("device", "names a device on Windows, so no file there can have it")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"), AfterValidator(_no_device)]


class Study(Section):
    """What `lorabench study` runs: the whole story once for each seed, `workers` (null: one per core) side by side.

    With `methods`, every base is fine-tuned by each of them in turn, instead of once as the finetune section says.
    """

    name: Name = "study"
    seeds: Annotated[tuple[Seed, ...], BeforeValidator(_seed_list), AfterValidator(distinct), Field(min_length=1)] = (
        0,
        1,
        2,
        3,
        4,
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    methods: Annotated[
        tuple[Annotated[SerializeAsAny[Entry], BeforeValidator(Entry.parse)], ...], BeforeValidator(_as_tuple)
    ] = ()


def _axis(value: Any) -> Any:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("an axis is a list of values, for example [1, 2, 4]")
    return _as_tuple(value)


class Sweep(Section):
    """What `lorabench sweep` runs: every combination of the values in `grid`, for each of `study.seeds`.

    An axis of the grid is any setting: `pretrain.epochs`, or short for the finetune section `k`, or `lora.lr`, which
    also says the method. `study.workers` points run side by side.
    """

    name: Name = "sweep"
    grid: dict[str, Annotated[tuple[Any, ...], BeforeValidator(_axis)]] = Field(
        default_factory=dict[str, tuple[Any, ...]]
    )


def _figure(value: Any) -> Any:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number or (isinstance(value, str) and re.fullmatch(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)%", value, re.ASCII)):
        return value
    raise ValueError("write a number such as 97.74% or 6248")


def _not_negative(value: float | str) -> float | str:
    if str(value).startswith("-") and float(str(value).removesuffix("%")):
        raise ValueError("must not be negative")
    return value


Figure = Annotated[float | str, BeforeValidator(_figure)]
"""A number, or one in percent as text: `97.74%`."""


class Expectation(Section):
    """A value that the study must come within `tolerance` of (0: exactly), both in the unit of what is measured."""

    value: Figure
    tolerance: Annotated[Figure, AfterValidator(_not_negative)] = 0.0


class Config(Section):
    """One resolved configuration.

    `seed` is what `pretrain.seed` and `finetune.seed` follow where they are null. `reuse` computes what a method leaves
    frozen below its first trainable layer once, not in every step. With `holdout` images held out of the
    training set, everything is trained on the others and measured on these, and the test set is never looked at: for
    choosing settings.
    """

    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    reuse: bool = True
    holdout: Annotated[int, Field(ge=0, le=50_000)] = 0
    pretrain: Pretrain = Field(default_factory=Pretrain)
    fmnist: Fmnist = Field(default_factory=lambda: shifts.parse({}))
    finetune: Annotated[SerializeAsAny[Finetune], BeforeValidator(Finetune.parse)] = Field(
        default_factory=lambda: Finetune.parse({})
    )
    study: Study = Field(default_factory=Study)
    sweep: Sweep = Field(default_factory=Sweep)
    expect: dict[str, Expectation] = Field(default_factory=dict[str, Expectation])

    @field_validator("expect", mode="before")
    @classmethod
    def _bare_number(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: v if isinstance(v, dict | Expectation) else {"value": v} for k, v in value.items()}  # pyright: ignore[reportUnknownVariableType]

    def for_seed(self, seed: int) -> Config:
        """This configuration under another main seed."""
        return self.model_copy(update={"seed": seed})
