"""The type of an entry of the registry: all that lorabench knows of a method beside its code. No torch in here."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, create_model

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

Shapes = Sequence[tuple[int, int]]
"""(inputs, outputs) of every linear layer that a method is applied to."""
Options = Mapping[str, Any]
"""A method's own settings, complete."""

RESERVED = frozenset(
    {"method", "targets", "epochs", "batch_size", "lr", "warmup", "seed", "options"}  # of the recipe
    | {"base", "data", "stage", "holdout", "mnist", "tensors_sha256"}  # of a run's record
    | {"also_train"}  # of `methods.apply`, beside the options as targets are
)
"""Names that no option may have: options stand beside these, and one of the same name would take its place."""


def since(version: str, annotation: Any, default: Any) -> tuple[Any, Any]:
    """An option that a method has since `version` of lorabench, as `Method.options` takes it.

    At its default it stands in no id and no record, so that what was made without it stays what it is.
    """
    return Annotated[annotation, Field(json_schema_extra={"since": version})], default


def came_later(setting: FieldInfo) -> bool:
    """Whether the setting was declared by `since`, or as that does."""
    return isinstance(setting.json_schema_extra, dict) and "since" in setting.json_schema_extra


@dataclass(frozen=True)
class Exemption:
    """A clause of the contract that a method rightly breaks, and why.

    Attributes:
        clause: `birth`, a fresh method leaves the logits as they are; `merge`, it folds into plain linear layers;
            `mix`, what it changes in the weights adds to what others change.
        reason: why not; what a user reads.
        when: the options with which it breaks the clause; empty for always.
        absolute: how far the logits may be off at birth.
        relative: the same, as a share of the largest logit.
    """

    clause: Literal["birth", "merge", "mix"]
    reason: str
    when: Options = field(default_factory=dict[str, Any])
    absolute: float = 0.0
    relative: float = 0.0


def every(layers: Sequence[str], options: Options) -> Sequence[str]:
    """All linear layers: where most methods go when no targets are named."""
    del options
    return layers


class Part(NamedTuple):
    """What a layer multiplies by: a matrix of shape (inputs, outputs), or a vector (values,).

    `name` is its symbol in the formula. It is `trained` by the method; or frozen, and then `added` by it or the layer's
    own.
    """

    name: str
    shape: tuple[int, ...]
    trained: bool = True
    added: bool = True

    @property
    def size(self) -> int:
        """How many parameters it has."""
        return math.prod(self.shape)

    @property
    def products(self) -> int:
        """Multiply-adds of one example: a matrix makes one for each parameter; a vector's are not counted."""
        return self.size if len(self.shape) == 2 else 0


Layer = Sequence[Sequence[Part]]
"""What a layer computes: the sum of paths, each of them parts that are applied one after the other."""


def trained(name: str, *shape: int) -> Part:
    """A part that the method trains."""
    return Part(name, shape)


def frozen(name: str, *shape: int) -> Part:
    """A part that the method draws and does not train."""
    return Part(name, shape, trained=False)


def own(n: int, m: int, name: str = "W0") -> Part:
    """The layer's own weight, frozen."""
    return Part(name, (n, m), trained=False, added=False)


class Products(NamedTuple):
    """Multiply-adds of one example's matrix products in a layer of n inputs and m outputs, its own weight included.

    Attributes:
        forward: a plain layer makes nm.
        backward: where the gradient goes on to what stands below; a frozen layer makes nm.
        lowest: the backward where nothing below is trained and the gradient ends; a frozen layer makes none.
    """

    forward: int
    backward: int
    lowest: int


def _backward(layer: Layer, *, below: bool) -> int:
    """Multiply-adds of the gradients: of each trained part, and through each part above something trained."""
    made = 0
    for path in layer:
        needed = below
        for part in path:
            made += part.products * (part.trained + needed)
            needed |= part.trained
    return made


@dataclass(frozen=True)
class Method:
    """One entry of the registry.

    Attributes:
        title: the method's name as its authors write it.
        formula: what a layer with weight W0 computes, or its weight, in the paper's symbols.
        paper: authors, year and arXiv number.
        options: the method's own settings, with types and defaults, as pydantic's `create_model` takes them; one that
            is added to a method that has runs already is written `since(...)`.
        layer: what it makes of a linear layer of n inputs and m outputs with a bias; its counts follow.
        lr: the learning rate chosen for the default recipe on held-out training images (runs/README.md).
        lr_of: the options, as far as they matter, of variants that need another one, each with its rate.
        where: which of the layers within its reach are targeted when none are named, of their names in order.
        reach: what it trains or adapts: `linear` layers, all `parameters` of any module, or all `biases`.
        low_rank: a rank k above the smaller side of a layer adds nothing to what it can reach.
        wider: it adapts `nn.Conv2d` and `nn.Embedding` too, where they are named.
        in_place: it trains parameters that the layers have anyway, their biases among them, and adds none.
        shared: what it adds and does not train is there once, as large as the largest layer needs.
        remakes: it makes a weight of its parts in each step, which a batch shares, so that an example has no products.
        exemptions: where it rightly breaks the contract.
    """

    title: str
    formula: str
    paper: str
    options: dict[str, Any]
    layer: Callable[[int, int, Options], Layer]
    lr: float
    lr_of: Sequence[tuple[Options, float]] = ()
    where: Callable[[Sequence[str], Options], Sequence[str]] = every
    reach: Literal["linear", "parameters", "biases"] = "linear"
    low_rank: bool = False
    wider: bool = False
    in_place: bool = False
    shared: bool = False
    remakes: bool = False
    exemptions: tuple[Exemption, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an option that would take a setting of the recipe away from it."""
        if taken := sorted(RESERVED & self.options.keys()):
            raise ValueError(
                f"{self.title}: an option cannot be called {', '.join(taken)}: that is a setting of every run"
            )

    @functools.cached_property
    def model(self) -> type[BaseModel]:
        """The pydantic model of the method's own settings."""
        config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
        return create_model(self.title, __config__=config, **self.options)

    @property
    def defaults(self) -> dict[str, Any]:
        """The method's own settings where nothing is said of them."""
        return self.model().model_dump()

    def rate(self, options: Options) -> float:
        """The learning rate for these (complete) options."""
        return next((lr for when, lr in self.lr_of if when.items() <= options.items()), self.lr)

    def trainable(self, shapes: Shapes, options: Options) -> int:
        """The number of parameters that it trains in layers of these shapes with biases."""
        return sum(part.size for n, m in shapes for path in self.layer(n, m, options) for part in path if part.trained)

    def frozen(self, shapes: Shapes, options: Options) -> int:
        """The number of parameters that it adds to them and does not train."""
        layers = [
            [part.shape for path in self.layer(n, m, options) for part in path if part.added and not part.trained]
            for n, m in shapes
        ]
        if self.shared:
            layers = [[tuple(map(max, zip(*same, strict=True))) for same in zip(*layers, strict=True)]]
        return sum(math.prod(shape) for layer in layers for shape in layer)

    def products(self, n: int, m: int, options: Options) -> Products | None:
        """Multiply-adds of one example in a layer; None if it `remakes` its weight."""
        if self.remakes:
            return None
        layer = self.layer(n, m, options)
        forward = sum(part.products for path in layer for part in path)
        return Products(forward, _backward(layer, below=True), _backward(layer, below=False))

    def exemption(self, clause: Literal["birth", "merge", "mix"], options: Options) -> Exemption | None:
        """Why the method, with these (complete) options, does not hold to this clause; None: it does."""
        fitting = (e for e in self.exemptions if e.clause == clause and e.when.items() <= options.items())
        return next(fitting, None)
