"""Random input for what reads text and files: each must be taken, or refused by an error of lorabench's own.

    python tests/benchmarks/fuzz.py query --inputs 100000
    python tests/benchmarks/fuzz.py query --seed 7 --inputs 1000

A target is a function from a random generator to nothing, and a line in `TARGETS`. It makes one input and feeds it; a
`LorabenchError` is a proper answer, any other exception is a find: it is printed with the number of the input, and
`--seed S --first N --inputs 1` feeds that one again.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gzip
import io
import json
import math
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import yaml

from lorabench import checkpoint, config, npz, query
from lorabench.analysis.listing import fields as fields_of
from lorabench.analysis.listing import select
from lorabench.config.source import parse_yaml
from lorabench.data.idx import read_idx
from lorabench.errors import LorabenchError
from lorabench.report import listing, shown
from lorabench.runs import Store

sys.path.insert(0, str(Path(__file__).parents[1]))
from collections.abc import Callable, Generator, Sequence

from report_factory import finetune, fmnist, pretrain, render

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
    """The text of a YAML config, or a config in which something is wrong."""
    if chance.random() < 0.5:
        parse_yaml(joined(chance, CONFIG_PARTS), "fuzz.yaml")
        return
    with written(yaml.safe_dump(mutated(chance, CONFIG)).encode(errors="surrogatepass")) as path:
        config.dump(config.load([path]).config)


FOLDER = Path(tempfile.mkdtemp(prefix="lorabench-fuzz-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
CONFIG = config.Config().model_dump(mode="json")
DIGITS = {"labels": np.arange(10, dtype=np.uint8), "mnist": np.zeros(10, np.uint8)}
TENSOR = torch.arange(6, dtype=torch.float32).reshape(2, 3)
CHECKPOINT = checkpoint.encode({"a": TENSOR}, {"run": "x"})
RUN = json.loads(finetune().model_dump_json(by_alias=True))
HOSTILE: list[Any] = [
    *(None, True, 0, -1, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 10_000, "\0", "\x1b[2J"),
    *("../../etc/passwd", "[bold]", "[/bold]", "é\ud800", "0001-01-01", [], {}, [[]], {"": {}}, [None] * 10),
]


def mutated(chance: random.Random, value: Any) -> Any:
    """A copy of a JSON value in which something, somewhere, is another thing or not there."""
    if not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        return chance.choice(HOSTILE)
    if isinstance(value, list):
        items = cast("list[Any]", value)
        at = chance.randrange(len(items))
        return [*items[:at], *([] if chance.random() < 0.2 else [mutated(chance, items[at])]), *items[at + 1 :]]
    fields = cast("dict[str, Any]", value)
    key = chance.choice(list(fields))
    kept = {name: part for name, part in fields.items() if name != key}
    fate = chance.random()
    if fate < 0.2:
        return kept
    return kept | {str(chance.choice(HOSTILE)) if fate < 0.3 else key: mutated(chance, fields[key])}


def damaged(chance: random.Random, data: bytes) -> bytes:
    """A copy of the bytes with some of them changed, cut off, or put in."""
    broken = bytearray(data)
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(len(broken) + 1)
        other = chance.choice([b"\0", b"\xff", b"\xff\xff\xff\x7f", chance.randbytes(1), chance.randbytes(4)])
        broken[at : at + chance.choice([0, len(other), len(other)])] = other
    return bytes(broken[: chance.randrange(len(broken) + 1)] if chance.random() < 0.1 else broken)


@contextlib.contextmanager
def written(data: bytes, name: str = "fuzz") -> Generator[Path]:
    """A file of these bytes for a moment."""
    path = FOLDER / name
    path.write_bytes(data)
    try:
        yield path
    finally:
        path.unlink()


def feed_run(chance: random.Random) -> None:
    """A record as `ls` and `report` read it, and what they make of it."""
    record = mutated(chance, RUN)
    for _ in range(chance.choice([0, 0, 1, 3])):
        record = mutated(chance, record)
    text = json.dumps(record, allow_nan=True).encode()
    path = FOLDER / RUN["id"] / "run.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(damaged(chance, text) if chance.random() < 0.2 else text)
    store = Store(FOLDER)
    run = store.load(RUN["id"])
    render(listing.listing(select([run]), now=datetime(2025, 11, 24, tzinfo=UTC)))
    fields_of(run)
    for runs in ([run], [run, finetune(1)], [run, finetune(1), pretrain()]):
        found = shown.runs_shown(store, [r.model_copy(update={"files": {}}) for r in runs])
        render(found.table)
        json.dumps(found.data, default=str)
    study = shown.study_shown([fmnist(), pretrain(), run])
    render(study.table)


def feed_idx(chance: random.Random) -> None:
    """An IDX file, plain or compressed."""
    shape = chance.choice([(3,), (2, 3, 4)])
    head = bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)
    data = head + chance.randbytes(math.prod(shape))
    if chance.random() < 0.5:
        with written(damaged(chance, data)) as path:
            read_idx(path)
    else:
        packed = gzip.compress(damaged(chance, data) if chance.random() < 0.5 else data)
        with written(damaged(chance, packed), "fuzz.gz") as path:
            read_idx(path)


def packed_digits(*, small: bool) -> bytes:
    """An .npz file of two arrays."""
    stream = io.BytesIO()
    (np.savez_compressed if small else np.savez)(stream, allow_pickle=False, **DIGITS)
    return stream.getvalue()


def feed_predictions(chance: random.Random) -> None:
    """An .npz file of digits."""
    with written(damaged(chance, packed_digits(small=chance.random() < 0.5))) as path:
        npz.read(path, np.uint8)


def feed_checkpoint(chance: random.Random) -> None:
    """A safetensors file."""
    header, rest = CHECKPOINT[8 : 8 + int.from_bytes(CHECKPOINT[:8], "little")], CHECKPOINT[-TENSOR.nbytes :]
    if chance.random() < 0.5:
        data = damaged(chance, CHECKPOINT)
    else:
        text = json.dumps(mutated(chance, json.loads(header))).encode()
        data = len(text).to_bytes(8, "little") + text + rest
    with written(data) as path:
        checkpoint.decode(path, {"a": TENSOR}, {"run": "x"})


TARGETS: dict[str, Callable[[random.Random], None]] = {
    "query": feed_query,
    "config": feed_config,
    "run": feed_run,
    "idx": feed_idx,
    "predictions": feed_predictions,
    "checkpoint": feed_checkpoint,
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
