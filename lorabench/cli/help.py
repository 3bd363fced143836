"""Help with the defaults that the config has; `finetune METHOD --help` is of that method alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from typer.core import TyperCommand, TyperGroup, TyperOption

WORDS = "lorabench.words"
"""Where a context keeps the words of its command line: `--help` is answered before they are read."""


class Group(TyperGroup):
    """The application."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        _without_bool(self.get_params(ctx))
        super().format_help(ctx, formatter)


class Command(TyperCommand):
    """A command; what it does not set itself is as the config says."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        ctx.meta[WORDS] = [*args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help, with the config's defaults where the command reads one."""
        _without_bool(self.get_params(ctx))
        if {"sets", "device"} & {param.name for param in self.params}:
            self._fill(ctx)
        super().format_help(ctx, formatter)

    def _fill(self, ctx: Any) -> None:
        from lorabench.analysis.number import ranges
        from lorabench.config import Config, Finetune
        from lorabench.methods import METHODS
        from lorabench.runner import stages

        finetuning = self.name in ("finetune", "finetune-lora")
        words = ["lora"] if self.name == "finetune-lora" else ctx.meta[WORDS] if finetuning else []
        method = next((word for word in words if word in METHODS), None)
        config = stages.resolve(Config(finetune=Finetune.parse({"method": method or "lora"})))
        own = {"pretrain": config.pretrain, "make-fmnist": config.fmnist}.get(self.name or "", config.finetune)
        defaults = {
            key: value for section in (config, config.study, own) for key, value in section if value is not None
        }
        defaults["seeds"] = ranges(config.study.seeds)
        if finetuning:
            options = {name for entry in METHODS.values() for name in entry.options}
            foreign = options - METHODS[method].options.keys() if method else set[str]()
            for param in self.params:
                setattr(param, "hidden", param.name in foreign)  # noqa: B010 - not every kind of parameter has it
            for name in {"method"} if method else {"method", "lr", *options}:
                defaults.pop(name, None)
            if method:
                defaults.setdefault("targets", tuple(_places(method)))
            self.epilog = _method_help(method, {str(param.name) for param in self.params}) if method else _table()
        if all(param.name != "sets" for param in self.params):
            defaults = {"device": config.device}
        defaults = {"threads": 1 if self.name == "bench" else "the cores", **defaults}
        # What its text says already, and the one seed of a command of many, is not said again.
        said = {param.name for param in self.params if "default:" in (getattr(param, "help", None) or "")}
        said |= {"seed"} if any(param.name == "seeds" for param in self.params) else set()
        ctx.default_map = {key: written(value) for key, value in defaults.items() if key not in said}


def _without_bool(params: list[Any]) -> None:
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""


def written(value: Any) -> str:
    """A setting as it can be written on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, cast("tuple[Any, ...]", value)))
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else written(value)


def _places(method: str) -> Sequence[str]:
    """The layers that a method goes to where none are named."""
    from lorabench.classifier import CLASSIFIER
    from lorabench.methods import METHODS

    return METHODS[method].where(list(CLASSIFIER), METHODS[method].defaults)


def _trained(method: str) -> int:
    """How many parameters a method trains by default."""
    from lorabench.classifier import CLASSIFIER
    from lorabench.methods import METHODS

    shapes = [CLASSIFIER[layer] for layer in _places(method)]
    return METHODS[method].trainable(shapes, METHODS[method].defaults)


def _method_help(method: str, shown: set[str]) -> str:
    """What the options do not say of a method: what it is, its other settings, and where there is more."""
    from lorabench.methods import METHODS

    entry = METHODS[method]
    rest = [f"-s finetune.{key}={_short(value)}" for key, value in entry.defaults.items() if key not in shown]
    lines = [f"{entry.title}: trains {_trained(method):,} parameters. {entry.paper}"]
    lines += [f"More settings, at their defaults: {' '.join(rest)}"] if rest else []
    return "\n\n".join([*lines, f"lorabench explain {method} has its formula and its sum."])


def _table() -> str:
    """The methods: names, parameters at their defaults, own settings."""
    from lorabench.methods import METHODS

    rows = [("method", "trains", "own settings, with their defaults")]
    for name, entry in METHODS.items():
        own = ", ".join(f"{key}={_short(value)}" for key, value in entry.defaults.items())
        rows.append((name, f"{_trained(name):,}", own))
    wide, counts = (max(len(row[column]) for row in rows) for column in (0, 1))
    table = "\n".join(f"{name:{wide}}  {count:>{counts}}  {own}".rstrip() for name, count, own in rows)
    more = "lorabench finetune METHOD --help has the options of one, lorabench explain METHOD its formula and its sum."
    return f"\b\n{table}\n\n{more}"
