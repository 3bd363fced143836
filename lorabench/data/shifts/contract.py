"""What a shift of the data is: which images of MNIST it changes, and how. Labels stay.

How many images change is exact: round(fraction·n) of the n images of each class, in each split. The room's `fmnist`
chooses them, the same way for every shift.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

if TYPE_CHECKING:
    from lorabench.data.idx import Bytes

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """`values`, of which none is there twice; else a ValueError says so."""
    if len(set(values)) != len(values):
        raise ValueError("an entry is named twice")
    return values


def _listed(value: Any) -> Any:
    """`4,7` as people write it on a command line."""
    if isinstance(value, str):
        return [int(word) if word.strip().isdecimal() else word.strip() for word in value.split(",")]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else value


# Not strict, so that YAML's lists are taken; the digits themselves are converted from nothing.
Classes = Annotated[
    tuple[Annotated[int, Field(ge=0, le=9)], ...],
    BeforeValidator(_listed),
    Field(strict=False, min_length=1),
    AfterValidator(distinct),
]


class ShiftOptions(BaseModel):
    """What every shift is asked: which part (`fraction`) of which digits (`classes`) changes; `seed` draws the images.

    A shift adds options of its own; every one but the first also `shift: Literal["its-name"] = "its-name"`, so that its
    name is among the settings that make a run's id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    fraction: Fraction = 0.3
    classes: Classes = (2, 3)
    seed: Seed = 0


@dataclass(frozen=True)
class Shift:
    """One way to change images.

    Attributes:
        word: what a changed image is called in tables, a participle such as `mirrored`.
        options: the model of its options.
        change: images (n, 28, 28) and options to the changed images, of the same shape and type.
    """

    word: str
    options: type[ShiftOptions]
    change: Callable[[Bytes, Any], Bytes]

    @property
    def parts(self) -> dict[str, str]:
        """The parts of F-MNIST's test set, by the keys of run.json in their order, and what a reader calls them."""
        return {"flipped": self.word, "upright": f"not {self.word}", "rest": "other digits"}
