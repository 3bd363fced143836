"""YAML read so that every value still knows its line: the only place that parses YAML.

Stricter and friendlier than PyYAML alone: `1e-3` is a number, `yes` is a word, a duplicate key is an error, and
aliases are refused (no setting needs them, and a few lines of them can expand to gigabytes), and tags. PyYAML is
imported where there is YAML: the shell waits for names and keys.

    find(Path("study"))      # the file of that name in this folder, or else the config that comes with lorabench
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lorabench.errors import ConfigError, InputError

if TYPE_CHECKING:
    import yaml

_FOLDER = ("share", "lorabench", "configs")
"""Where a wheel puts the configs, below the environment that it is installed in: `data-files` of pyproject.toml."""

MAX_BYTES = 100_000
MAX_DEPTH = 20
MAX_DIGITS = 18

KeyPath = tuple[str | int, ...]


@dataclass
class Source:
    """Settings from one place: nested values, and for each key path the words that say where it stands.

    `options` are the key paths that the command line set, and no file.
    """

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    places: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])
    problems: list[str] = field(default_factory=list[str])
    options: list[KeyPath] = field(default_factory=list[KeyPath])


_NUMBER = re.compile(
    r"[-+]?(\d+)(\.\d*)?(e[-+]?\d+)?|[-+]?\.\d+(e[-+]?\d+)?|[-+]?\.inf|\.nan", re.IGNORECASE | re.ASCII
)
_INTEGER = re.compile(r"[-+]?\d+", re.ASCII)


def scalar(text: str) -> Any:
    """A plain YAML word as a value: null, true/false, an integer, a float, or the word itself.

    Raises:
        ValueError: a number of more than 18 characters.
    """
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if not _NUMBER.fullmatch(text):
        return text
    if not _INTEGER.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    if len(text) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(text)} digits is more than any setting takes")
    return int(text)


def read_yaml(path: Path) -> Source:
    """Read one YAML file. Problems of single values are collected in the result.

    Raises:
        InputError: the file cannot be read.
        ConfigError: it is no YAML, or no mapping.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(raw) > MAX_BYTES:
        raise ConfigError([f"{path}  is larger than {MAX_BYTES:,} bytes; a config is a page of text"])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}  is not UTF-8 text (byte {error.start})"]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, name: str) -> Source:
    """Parse YAML `text`; `name` stands before line and column in every message.

    Raises:
        ConfigError: as `read_yaml`.
    """
    import yaml

    source = Source()
    try:
        _refuse_bombs(text, name)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        tab = "'\\t'" in str(error.problem)
        problem = "a tab; YAML indents with spaces" if tab else error.problem or error.context or "not YAML"
        raise ConfigError([f"{where}  {problem}"]) from error
    except yaml.YAMLError as error:
        raise ConfigError([f"{name}  not YAML: {' '.join(str(error).split())}"]) from error
    if node is None:
        return source
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError([f"{_place(node, name)}  a config is a mapping, `section: {{key: value}}`"])
    source.values = _mapping(node, (), name, source)
    return source


def _refuse_bombs(text: str, name: str) -> None:
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        mark = cast("yaml.Mark", event.start_mark)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError([f"{where}  aliases (*{event.anchor}) are not allowed; write the value out"])
        if tag := getattr(event, "tag", None):
            raise ConfigError([f"{where}  tags ({tag}) are not allowed; write the value alone"])
        if isinstance(event, yaml.ScalarEvent) and re.search("[\ud800-\udfff]", str(event.value)):
            raise ConfigError([f"{where}  half of a character (a surrogate) is no text"])
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError([f"{where}  nested more than {MAX_DEPTH} levels deep"])


def _place(node: yaml.Node, name: str) -> str:
    return f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _mapping(node: yaml.MappingNode, path: KeyPath, name: str, source: Source) -> dict[str, Any]:
    import yaml

    values: dict[str, Any] = {}
    for key_node, value_node in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
        place = _place(key_node, name)
        if not isinstance(key_node, yaml.ScalarNode):
            source.problems.append(f"{place}  a key must be a word")
            continue
        key = str(key_node.value)
        here = (*path, key)
        if key in values:
            first = source.places[here]
            source.problems.append(f"{place}  {dotted(here)}  set twice; it was first set at {first}")
            continue
        source.places[here] = place
        values[key] = _value(value_node, here, name, source)
    return values


def _value(node: yaml.Node, path: KeyPath, name: str, source: Source) -> Any:
    import yaml

    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, name, source)
    if isinstance(node, yaml.SequenceNode):
        items = cast("list[yaml.Node]", node.value)
        return [_value(item, (*path, i), name, source) for i, item in enumerate(items)]
    text = str(node.value)
    if isinstance(node, yaml.ScalarNode) and node.style:
        return text
    try:
        return scalar(text)
    except ValueError as error:
        source.problems.append(f"{_place(node, name)}  {dotted(path)}  {error}")
        return None


def dotted(path: KeyPath) -> str:
    """`("fmnist", "classes", 0)` as people write it: `fmnist.classes[0]`."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def packaged() -> dict[str, Path]:
    """Name -> file: those of the checkout that this file belongs to, or else the installed ones."""
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        paths = list((checkout / "configs").glob("*.yaml"))
    else:
        from importlib.metadata import PackageNotFoundError, distribution  # imported late: completion waits for it

        try:
            files = distribution("lorabench").files or []
        except PackageNotFoundError:
            files = []
        paths = [Path(str(file.locate())).resolve() for file in files if file.parts[-4:-1] == _FOLDER]
    return {path.stem: path for path in sorted(paths)}


def find(path: Path) -> Path:
    """`path` itself if there is such a file, or else the config of that name that comes with lorabench.

    Raises:
        InputError: there is neither.
    """
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    known = packaged()
    if path.name in known:
        return known[path.name]
    near = difflib.get_close_matches(path.name, known, n=1)
    meant = f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(known)}"
    raise InputError(f"{path}: no such file, and no config of that name comes with lorabench{meant}")
