"""Settings: defaults < YAML files < `--set` < flags, checked all at once; every value knows where it came from.

    loaded = load([Path("configs/lora.yaml")], ["finetune.k=8"], {"seed": 3})
    loaded.config.finetune.options["k"]                      # 8
    loaded.origins["finetune.k"]                             # "--set finetune.k=8"

Imports no torch: a typo is reported before anything slow begins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from lorabench.config.schema import (
    Config,
    Entry,
    Expectation,
    Finetune,
    MethodSection,
    Pretrain,
    Section,
    Study,
    Sweep,
    hashed,
    nearest,
    parse_seeds,
)
from lorabench.config.source import KeyPath, Source, dotted, find, parse_yaml, read_yaml
from lorabench.data import shifts
from lorabench.errors import ConfigError

__all__ = [
    "Config",
    "Entry",
    "Expectation",
    "Finetune",
    "Loaded",
    "Pretrain",
    "Section",
    "Source",
    "Study",
    "Sweep",
    "check",
    "dump",
    "gather",
    "hashed",
    "load",
    "nearest",
    "parse_seeds",
]


@dataclass(frozen=True)
class Loaded:
    """A checked configuration, and for each value that is not a default the words that say who set it."""

    config: Config
    origins: dict[str, str]


def load(
    files: Sequence[Path] = (),
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Loaded:
    """Merge all sources and check the result.

    Args:
        files: YAML files, or names of configs that come with lorabench; a later one wins over an earlier one.
        sets: `key.path=value` texts, the value read as YAML.
        flags: dotted key to value, as given by flags of the command line; None is not given.

    Raises:
        ConfigError: with every problem of every source, each with its place.
        InputError: a file cannot be read.
    """
    return check(gather(files, sets, flags))


def option(key: str) -> str:
    """What messages call the flag of a setting: `--last-part`."""
    return "--" + key.rsplit(".", 1)[-1].replace("_", "-")


def gather(
    files: Sequence[Path] = (),
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    called: Callable[[str], str] = option,
) -> Source:
    """All sources as one, later ones winning; nothing in it is checked yet.

    Arguments and errors as in `load`; `called` gives of a flag's key what messages call the flag.
    """
    sources = [read_yaml(find(path)) for path in files]
    options = [_from_set(text) for text in sets]
    given = [(key, value) for key, value in (flags or {}).items() if value is not None]
    options += [_nested(tuple(key.split(".")), value, called(key)) for key, value in given]
    merged = Source(options=[path for source in options for path in source.places])
    for source in [*sources, *options]:
        _merge(merged.values, source.values, Config.model_fields)
        merged.places.update(source.places)
        merged.problems += source.problems
    return merged


def check(merged: Source) -> Loaded:
    """The configuration that `merged` holds.

    Raises:
        ConfigError: with every problem, each with its place.
    """
    problems = list(merged.problems)
    try:
        config = Config.model_validate(merged.values)
    except ValidationError as error:
        problems += [_explain(cast("dict[str, Any]", e), merged) for e in error.errors()]
        raise ConfigError(problems) from error
    if problems:
        raise ConfigError(problems)
    return Loaded(config, {dotted(path): place for path, place in merged.places.items()})


def _from_set(text: str) -> Source:
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError([f"--set {text}  must have the form key.path=value"])
    inner = parse_yaml(f"value: {value}" if value.strip() else "value: ''", f"--set {text}")
    if inner.problems or set(inner.values) != {"value"}:
        raise ConfigError(inner.problems or [f"--set {text}  must set one value"])
    return _nested(tuple(parts), inner.values["value"], f"--set {text}")


def _nested(parts: tuple[str, ...], value: Any, place: str) -> Source:
    source = Source()
    source.places[parts] = place
    for part in reversed(parts):
        value = {part: value}
    source.values = value
    return source


def _merge(into: dict[str, Any], new: Mapping[str, Any], sections: Collection[str] = ()) -> None:
    """Merge `new` into `into`. Where one of `sections` is not a mapping, keep it, so that validation reports it."""
    for key, value in new.items():
        if value is None and key in SECTIONS and sections:  # `finetune:` with nothing below it, or all of it a comment
            into.setdefault(key, {})
        elif isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], cast("dict[str, Any]", value))
        elif not (isinstance(value, dict) and key in into and key in sections):
            into[key] = value


def _explain(error: dict[str, Any], merged: Source) -> str:
    loc = cast("KeyPath", error["loc"])
    place, key = _place(loc, merged), dotted(loc)
    if error["type"] == "extra_forbidden":
        whose, names = _keys(loc[:-1], merged.values)
        near = _meant(str(loc[-1]), names) if loc[:-1] else _meant_below(str(loc[-1])) or nearest(str(loc[-1]), names)
        return f"{place}{key}  unknown key{near if 'did you mean' in near else whose + near}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if error["type"] == "no_method":
        return f"{place}{key}  {message}"
    given = json.dumps(error["input"], default=str)
    return f"{place}{key}  {message}; got {given if len(given) < 60 else given[:57] + '...'}"


SECTIONS = ("pretrain", "fmnist", "finetune", "study", "sweep", "expect")

WORDS = {
    "r": "k",
    "rank": "k",
    "lora_r": "k",
    "learning_rate": "lr",
    "lora_alpha": "alpha",
    "batch": "batch_size",
    "bs": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "target_modules": "targets",
    "layers": "targets",
    "warmup_ratio": "warmup",
    "init_lora_weights": "init",
    "random_seed": "seed",
    "random_state": "seed",
}
"""What PEFT and others call a setting -> what it is called here."""


def _meant(key: str, names: Sequence[str]) -> str:
    """How a message about an unknown key ends, which may be another program's word for a known one."""
    ours = WORDS.get(key.lower().replace("-", "_"))
    return f'; did you mean "{ours}"?' if ours in names else nearest(key, names)


def _meant_below(key: str) -> str:
    """The same of a key without its section, if one has it: `lr` is `finetune.lr`."""
    ours = WORDS.get(key.lower().replace("-", "_"), key)
    holding = [
        f"{part}.{ours}" for part in ("finetune", "pretrain", "fmnist", "study") if ours in _keys((part,), _EMPTY)[1]
    ]
    return f"; did you mean {' or '.join(holding)}?" if holding else ""


_EMPTY: dict[str, Any] = {name: {} for name in SECTIONS}


def _place(loc: KeyPath, merged: Source) -> str:
    for end in range(len(loc), 0, -1):
        if loc[:end] in merged.places:
            return merged.places[loc[:end]] + "  "
    return ""


def _keys(path: KeyPath, values: Any) -> tuple[str, list[str]]:
    """Words that say whose keys the mapping at `path` of `values` has, and which these may be."""
    for part in path:
        values = values[part]
    match path:
        case ():
            return "", list(Config.model_fields)
        case ("fmnist",):
            return "", shifts.keys(values)
        case ("finetune",) | ("study", "methods", _):
            section: type[MethodSection] = Finetune if path == ("finetune",) else Entry
            method = values.get("method", "lora")
            return f" of the method {method}", list(section.of(method).model_fields)
        case ("expect", _):
            return "", list(Expectation.model_fields)
        case _:
            section_model = Config.model_fields[str(path[0])].annotation
            return "", list(cast("type[BaseModel]", section_model).model_fields)


def dump(config: Config, header: str = "", without: Collection[str] = ()) -> str:
    """`config` as YAML text that `load` reads back to an equal config; `header` becomes the comment at its top.

    The sections `without` are left out, and are read back at their defaults.
    """
    import yaml  # imported late: the shell waits for the keys of a config

    comment = "".join(f"# {line}\n" for line in header.splitlines())
    content = config.model_dump(mode="json", exclude={*without})
    return comment + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=100)
