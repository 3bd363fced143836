"""Random input for what reads text and files: each must be taken, or refused by an error of lorabench's own.

    python tests/benchmarks/fuzz.py query --inputs 100000
    python tests/benchmarks/fuzz.py query --seed 7 --inputs 1000

A target is a function from a random generator to nothing, and a line in `TARGETS`. It makes one input and feeds it; a
`LorabenchError` is a proper answer, any other exception is a find: it is printed with the number of the input, and
`--seed S --first N --inputs 1` feeds that one again.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from typing import TYPE_CHECKING

from lorabench import query
from lorabench.config.source import parse_yaml
from lorabench.errors import LorabenchError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONDITION_PARTS = [
    *("k", "fmnist.accuracy", "id", "reuse", "'lora-k*'", '"', "'", "4", "-1e9", "97.5%", "1e999", "null", "true"),
    *("<", "<=", ">", ">=", "==", "!=", "~", "=", "and", "or", "not", "(", ")", " ", "\t", "[", "\0", "é", "\ud800"),
]
CONFIG_PARTS = [
    *("finetune", "k", "lr", "seed", ":", ": ", "\n", "  ", "- ", "{", "}", "[", "]", ",", "&a", "*a", "!!set", "|"),
    *("1e-3", "4", "yes", "null", "'", '"', "#", "%", "?", "<<", "\t", "\0", "é", "\ud800", "methods", "lora"),
]


def joined(chance: random.Random, parts: Sequence[str]) -> str:
    """Some of the parts, some of them mixed with any characters at all."""
    count = chance.choice([2, 8, 40, 400])
    return "".join(
        chance.choice(parts) if chance.random() < 0.95 else chr(chance.randrange(0x11_0000)) for _ in range(count)
    )


def feed_query(chance: random.Random) -> None:
    """A condition with something random in its midst, and if it still is one, whether it holds."""
    links = [f"{chance.choice(('k', 'k4', '-4', '97%'))} {chance.choice(('<', '>=', '!='))} 4" for _ in range(4)]
    text = chance.choice((" and ", " or not ")).join(links)
    cut = chance.randrange(len(text))
    condition = query.parse(text[:cut] + chance.choice(("", " ", joined(chance, CONDITION_PARTS))) + text[cut:])
    condition.holds({"k": 4, "fmnist.accuracy": 0.97, "id": "lora-k4", "reuse": True})


def feed_config(chance: random.Random) -> None:
    """The text of a YAML config."""
    parse_yaml(joined(chance, CONFIG_PARTS), "fuzz.yaml")


TARGETS: dict[str, Callable[[random.Random], None]] = {
    "query": feed_query,
    "config": feed_config,
}


def fuzz(target: str, inputs: int, seed: int, first: int = 0) -> tuple[int, int]:
    """Feed `inputs` inputs to a target; how many it refused, and how many made it fail."""
    refused = failed = 0
    for number in range(first, first + inputs):
        try:
            TARGETS[target](random.Random(f"{seed}/{number}"))
        except LorabenchError:
            refused += 1
        except Exception:  # noqa: BLE001 - these are what is looked for
            failed += 1
            print(f"input {number} of seed {seed}\n{traceback.format_exc()}", file=sys.stderr)
    return refused, failed


def main() -> None:
    """The command line of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input")
    given = parser.parse_args()
    began = time.perf_counter()
    refused, failed = fuzz(given.target, given.inputs, given.seed, given.first)
    seconds = time.perf_counter() - began
    print(f"{given.inputs:,} inputs in {seconds:.0f} s: {refused:,} refused, {failed:,} failures")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
