"""What the shell offers where a value is due. Imports no torch: the answer must come while the finger is on the key.

    typer.Option(metavar="LAYER,...", autocompletion=complete.layers)

Each function takes what has been parsed of the command line and the word so far, and gives what the word may become,
with a description for shells that show one.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import typer

from lorabench.cli.help import written
from lorabench.errors import InputError

if TYPE_CHECKING:
    from lorabench.runs import Store

Offer = list[tuple[str, str]]
"""Values and their descriptions."""

VARIABLE = "_LORABENCH_COMPLETE"
DESCRIBED = 30
"""So many of the newest runs are described: a record takes a while to read."""


@contextlib.contextmanager
def rejoined() -> Generator[None]:
    """Answer a bash that takes `finetune.init=ta` for three words as if it were one; else do nothing.

    What bash then puts in place of the third is without the first two.
    """
    words, place = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    if os.environ.get(VARIABLE) != "complete_bash" or "=" not in words or not place.isdecimal():
        yield
        return
    joined: list[str] = []
    for word in words[: int(place) + 1]:
        if joined and (word == "=" or joined[-1].endswith("=")):
            joined[-1] += word
        else:
            joined.append(word)
    os.environ |= {"COMP_WORDS": "\n".join(joined), "COMP_CWORD": str(len(joined) - 1)}
    cut = joined[-1].rfind("=") + 1 if words[int(place)] != joined[-1] else 0
    offered = io.StringIO()
    try:
        with contextlib.redirect_stdout(offered):
            yield
    finally:
        print("\n".join(line[cut:] for line in offered.getvalue().splitlines()))  # noqa: T201


def words(*names: str) -> Callable[[str], Offer]:
    """One of `names`."""
    return lambda incomplete: _beginning(incomplete, names)


def layers(incomplete: str) -> Offer:
    """Layers of the classifier, with commas between them."""
    from lorabench.classifier import CLASSIFIER

    head, comma, last = incomplete.rpartition(",")
    return [(head + comma + name, "") for name in CLASSIFIER if name.startswith(last) and name not in head.split(",")]


def methods(incomplete: str) -> Offer:
    """Methods and their titles."""
    from lorabench.methods.registry import METHODS

    return [(name, method.title) for name, method in METHODS.items() if name.startswith(incomplete)]


def inits(ctx: typer.Context, incomplete: str) -> Offer:
    """How the method of the command draws its weights."""
    return [(value.partition("=")[2], "") for value, _ in settings(ctx, f"finetune.init={incomplete}")]


def configs(incomplete: str) -> Offer:
    """Configs that come with lorabench, and YAML files here."""
    from lorabench.config.source import packaged

    folder = Path(incomplete if incomplete.endswith("/") else os.path.dirname(incomplete))  # noqa: PTH120 - keeps ""
    paths = sorted(path for path in folder.iterdir() if path.name[0] != ".") if folder.is_dir() else []
    suffixes = (".yaml", ".yml")
    files = [f"{path}/" if path.is_dir() else str(path) for path in paths if path.is_dir() or path.suffix in suffixes]
    return [*_beginning(incomplete, packaged(), "comes with lorabench"), *_beginning(incomplete, files)]


def models(incomplete: str) -> Offer:
    """Large models."""
    from lorabench.scale.architectures import ARCHITECTURES

    return [(name, model.title) for name, model in ARCHITECTURES.items() if name.startswith(incomplete)]


def settings(ctx: typer.Context, incomplete: str) -> Offer:
    """`KEY=VALUE`: every key with its choices, or else with its default."""
    offer: Offer = []
    for key, default, choices in _keys(_method(ctx)):
        if key == "finetune.targets" and incomplete.startswith(f"{key}="):
            offer += [(f"{key}={value}", text) for value, text in layers(incomplete.partition("=")[2])]
        else:
            offer += [(f"{key}={value}", "the default" if value == default else "") for value in choices or [default]]
    return [(value, text) for value, text in offer if value.startswith(incomplete)]


def _method(ctx: typer.Context) -> str:
    """The method that the command line names, or else LoRA. What stands before an unfinished option is not parsed."""
    from lorabench.methods.registry import METHODS

    line = f"{os.environ.get('COMP_WORDS', '')} {os.environ.get('_TYPER_COMPLETE_ARGS', '')}".split()
    return next((word for word in [ctx.params.get("method"), *line] if word in METHODS), "lora")


def _keys(method: str) -> Iterator[tuple[str, str, list[str]]]:
    """Every key of a config, its default as text, and what else it may be if that is a few words.

    Read from the declarations: to build the models of a config takes longer than all else that completion does.
    """
    from lorabench.config import Config, Finetune
    from lorabench.data import shifts
    from lorabench.methods.registry import METHODS

    chosen = {"fmnist": shifts.SHIFTS[shifts.FIRST].options, "finetune": Finetune.of(method)}
    for name, field in Config.model_fields.items():
        if name in ("sweep", "expect"):
            continue
        own = getattr(chosen.get(name, field.annotation), "model_fields", None)
        settings = {f"{name}.{key}": below for key, below in own.items()} if own else {name: field}
        for key, setting in settings.items():
            known = list(METHODS) if key == "finetune.method" else _choices(setting.annotation)
            yield key, "" if setting.default is None else written(setting.default), known


def _choices(annotation: Any) -> list[str]:
    """The words of a `Literal` anywhere in a type."""
    if annotation is bool:
        return ["true", "false"]
    if get_origin(annotation) is Literal:
        return list(map(str, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return []
    return [word for part in get_args(annotation) for word in _choices(part)]


def runs(ctx: typer.Context, incomplete: str) -> Offer:
    """Runs by id, the newest first, and what they are and gave."""
    store = _store(ctx)
    told = 0 if os.environ.get(VARIABLE) == "complete_bash" else DESCRIBED
    ids = enumerate(_ids(store, incomplete))
    return [(run_id, _described(store, run_id) if place < told else "") for place, run_id in ids]


def _store(ctx: typer.Context) -> Store:
    from lorabench.runs import Store

    return Store(Path(ctx.params.get("runs_dir") or os.environ.get("LORABENCH_RUNS") or "runs"))


def _ids(store: Store, incomplete: str = "") -> list[str]:
    """The ids that begin so, the newest first; what cannot be read comes last."""
    from lorabench.runs.record import ID

    with contextlib.suppress(OSError):
        names = [name for name in os.listdir(store.root) if name.startswith(incomplete) and ID.fullmatch(name)]  # noqa: PTH208
        return sorted(names, key=lambda name: (_started(store.root / name / "run.json"), name), reverse=True)
    return []


def _started(record: Path) -> bytes:
    """When a run was started, as its record says: no more of it is read, for there may be thousands."""
    from lorabench.runs.record import MAX_RECORD_BYTES

    with contextlib.suppress(OSError):
        if record.is_file():
            with record.open("rb") as file:
                said = re.search(rb'"started": ?"([^"]*)"', file.read(MAX_RECORD_BYTES))
            return said[1] if said else b""
    return b""


def _described(store: Store, run_id: str) -> str:
    try:
        run = store.load(run_id)
    except InputError:
        return "cannot be read"
    gave = f"F-MNIST {100 * run.metrics['fmnist'].accuracy:.2f}%" if "fmnist" in run.metrics else run.status
    return f"{run.method or run.stage}{f' k {run.k}' if run.k else ''} seed {run.seed}  {gave}"


def studies(ctx: typer.Context, incomplete: str) -> Offer:
    """Studies by name."""
    from lorabench.runs.notes import study_of

    return _beginning(incomplete, sorted(map(study_of, (_store(ctx).root / ".studies").glob("*.json"))))


def fields(ctx: typer.Context, incomplete: str) -> Offer:
    """Fields of the newest runs, with commas between them; `-` may stand before each."""
    head, last = re.fullmatch(r"((?:.*,)?-?)(.*)", incomplete, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return [(head + name, text) for name, text in _beginning(last, _fields(ctx))]


def condition(ctx: typer.Context, incomplete: str) -> Offer:
    """A condition whose last word is a field of the newest runs."""
    head, last = re.fullmatch(r"(.*?)([a-z][\w.]*|)", incomplete, re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
    return [(head + name, text) for name, text in _beginning(last, _fields(ctx))]


def _fields(ctx: typer.Context) -> list[str]:
    from lorabench.analysis.listing import fields

    store, names = _store(ctx), set[str]()
    for run_id in _ids(store)[:10]:
        with contextlib.suppress(InputError):
            names |= fields(store.load(run_id)).keys()
    return sorted(names)


def _beginning(incomplete: str, names: Iterable[str], text: str = "") -> Offer:
    return [(name, text) for name in names if name.startswith(incomplete)]
