"""Settings: defaults < YAML files < `--set` < flags, checked all at once; every value knows where it came from.

    loaded = load([Path("configs/lora.yaml")], ["finetune.k=8"], {"seed": 3}, methods=...)
    loaded.config.finetune.options["k"]                      # 8
    loaded.origins["finetune.k"]                             # "--set finetune.k=8"

Imports no torch: a typo is reported before anything slow begins.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import yaml
from pydantic import BaseModel, ValidationError

from lorabench.config.schema import (
    Config,
    Entry,
    Expectation,
    Finetune,
    Pretrain,
    Section,
    Study,
    Sweep,
    parse_seeds,
)
from lorabench.config.source import KeyPath, Source, dotted, parse_yaml, read_yaml
from lorabench.data import shifts
from lorabench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

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
    "flat",
    "gather",
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
    *,
    methods: Mapping[str, type[BaseModel]],
) -> Loaded:
    """Merge all sources and check the result.

    Args:
        files: YAML files; a later one wins over an earlier one.
        sets: `key.path=value` texts, the value read as YAML.
        flags: dotted key to value, as given by flags of the command line (named `--last-part` in messages).
        methods: for every known method the model of its own options.

    Raises:
        ConfigError: with every problem of every source, each with its place.
        InputError: a file cannot be read.
    """
    return check(gather(files, sets, flags), methods=methods)


def gather(files: Sequence[Path] = (), sets: Sequence[str] = (), flags: Mapping[str, Any] | None = None) -> Source:
    """All sources as one, later ones winning; nothing in it is checked yet. Arguments and errors as in `load`."""
    sources = [read_yaml(path) for path in files]
    sources += [_from_set(text) for text in sets]
    sources += [_from_flag(key, value) for key, value in (flags or {}).items()]
    merged = Source()
    for source in sources:
        _merge(merged.values, source.values, Config.model_fields)
        merged.places.update(source.places)
        merged.problems += source.problems
    return merged


def check(merged: Source, *, methods: Mapping[str, type[BaseModel]]) -> Loaded:
    """The configuration that `merged` holds, which is used up: a method's options move to where `Config` has them.

    Raises:
        ConfigError: with every problem, each with its place.
    """
    problems = list(merged.problems)
    known: dict[KeyPath, tuple[str, Sequence[str]]] = {}
    for path, section, model in _method_sections(merged.values):
        known[path] = _hoist_options(section, path, model, merged, methods, problems)
    known["fmnist",] = "", shifts.keys(merged.values.get("fmnist"))
    try:
        config = Config.model_validate(merged.values)
    except ValidationError as error:
        problems += [_explain(cast("dict[str, Any]", e), merged, known) for e in error.errors()]
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


def _from_flag(key: str, value: Any) -> Source:
    return _nested(tuple(key.split(".")), value, "--" + key.rsplit(".", 1)[-1].replace("_", "-"))


def _nested(parts: tuple[str, ...], value: Any, place: str) -> Source:
    source = Source()
    source.places[parts] = place
    for part in reversed(parts):
        value = {part: value}
    source.values = value
    return source


def _merge(into: dict[str, Any], new: Mapping[str, Any], sections: Collection[str] = ()) -> None:
    """Let the values of `new` win. One of `sections` that is wrongly no mapping stays, for the check to find."""
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], cast("dict[str, Any]", value))
        elif not (isinstance(value, dict) and key in into and key in sections):
            into[key] = value


def _method_sections(values: dict[str, Any]) -> list[tuple[KeyPath, dict[str, Any], type[Section]]]:
    """Every mapping that names a method, with its key path and its model: `finetune`, and the entries of a study."""
    found: list[tuple[KeyPath, Any, type[Section]]] = [(("finetune",), values.setdefault("finetune", {}), Finetune)]
    study = values.get("study")
    entries = cast("dict[str, Any]", study).get("methods") if isinstance(study, dict) else None
    if isinstance(entries, list):
        found += [(("study", "methods", i), entry, Entry) for i, entry in enumerate(cast("list[Any]", entries))]
    return [(path, section, model) for path, section, model in found if isinstance(section, dict)]


def _hoist_options(
    section: dict[str, Any],
    path: KeyPath,
    model: type[Section],
    merged: Source,
    methods: Mapping[str, type[BaseModel]],
    problems: list[str],
) -> tuple[str, list[str]]:
    """Check the method's own keys in `section` and move them into its `options`, defaults filled in.

    Returns:
        Words that say whose keys they are, and every key that `section` may have.
    """
    common = [key for key in model.model_fields if key != "options"]
    method = section.get("method", Finetune.model_fields["method"].default)
    if not isinstance(method, str) or method not in methods:
        key = (*path, "method")
        place, near = _place(key, merged), nearest(str(method), methods)
        problems.append(
            f"{place}{dotted(key)}  no method is called {json.dumps(method)}{near}; known: {', '.join(methods)}"
        )
        for key in [key for key in section if key not in model.model_fields]:
            del section[key]
        return "", common
    schema = methods[method]
    own = {key: section.pop(key) for key in list(section) if key in schema.model_fields}
    if "options" in section:
        key = (*path, "options")
        hint = f"a method's own settings stand beside its name, e.g. {dotted((*path, 'k'))}"
        problems.append(f"{_place(key, merged)}{dotted(key)}  unknown key; {hint}")
    try:
        section["options"] = schema.model_validate(own).model_dump()
    except ValidationError as error:
        for e in error.errors():
            e["loc"] = (*path, *e["loc"])
            problems.append(_explain(cast("dict[str, Any]", e), merged, {}))
    return f" of the method {method}", common + list(schema.model_fields)


def _explain(error: dict[str, Any], merged: Source, known: Mapping[KeyPath, tuple[str, Sequence[str]]]) -> str:
    loc = cast("KeyPath", error["loc"])
    place = _place(loc, merged)
    key = dotted(loc)
    if error["type"] == "extra_forbidden":
        where, names = known.get(loc[:-1]) or ("", _fields(loc[:-1]))
        near = nearest(str(loc[-1]), names)
        return f"{place}{key}  unknown key{near if 'did you mean' in near else where + near}"
    message = str(error["msg"]).removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = json.dumps(error["input"], default=str)
    return f"{place}{key}  {message}; got {given if len(given) < 60 else given[:57] + '...'}"


def _place(loc: KeyPath, merged: Source) -> str:
    for end in range(len(loc), 0, -1):
        if loc[:end] in merged.places:
            return merged.places[loc[:end]] + "  "
    return ""


def _fields(path: KeyPath) -> list[str]:
    model: type[BaseModel] = Config
    for part in path:
        annotation = model.model_fields[str(part)].annotation if str(part) in model.model_fields else None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        else:
            return list(Expectation.model_fields) if path[0] == "expect" else []
    return list(model.model_fields)


def nearest(word: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    """How a message about the unknown `word` ends: with the name that it may stand for, or with all of a list."""
    close = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; known keys: {', '.join(names)}" if names and isinstance(names, list) else ""


def flat(config: Config) -> dict[str, Any]:
    """The settings as users write them: sections nested, a method's options among the keys beside it."""
    values = config.model_dump(mode="json")
    for section in (values["finetune"], *values["study"]["methods"]):
        section.update(section.pop("options"))
    return values


def dump(config: Config, header: str = "") -> str:
    """`config` as YAML text that `load` reads back to an equal config; `header` becomes the comment at its top."""
    comment = "".join(f"# {line}\n" for line in header.splitlines())
    return comment + yaml.safe_dump(flat(config), sort_keys=False, default_flow_style=None, width=100)
