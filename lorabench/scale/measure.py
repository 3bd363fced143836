"""What the arithmetic leaves to a clock: a decoder trained here, fully and by a method, on random tokens.

    record = measure(architecture("gpt2"), tuned, options, Setup(context=128), tell=print)

Each side trains in processes of its own, one for each number of blocks, so that a peak of memory is of that training
alone. The two with the most blocks stay and are timed in turns. Where memory or time do not allow the whole model, it
is measured with fewer blocks. No torch in here: `trial` computes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lorabench.errors import InputError, LorabenchError, RunFailedError, UsageError
from lorabench.scale.architectures import Architecture
from lorabench.scale.claims import size
from lorabench.scale.projection import PRECISIONS, Training, full, train, training_bytes

PROCESS = 350 * 10**6
"""Bytes that a process with torch takes before it has a model, rounded up."""
SHARE = 0.8
"""Of the free memory, what may be taken."""
ROUNDS = 10
"""At most; fewer where the time ends before, but 3 if it can be foreseen."""
TURN = 0.05
"""Seconds that a turn lasts at least: so many steps as that takes, one of a large model."""

_ROOT = Path(__file__).parent.parent.parent
_START = "import sys; sys.path.append(sys.argv[1]); from lorabench.scale import trial; trial.main()"


@dataclass(frozen=True)
class Setup:
    """How it is measured.

    Attributes:
        precision: fp32 or bf16, of weights, gradients and Adam; what a method adds is fp32 in both.
        limit: seconds that it may take, as far as that can be foreseen.
        device: auto, cpu or cuda.
        threads: on the CPU; None for torch's own choice.
    """

    precision: str = "fp32"
    batch: int = 1
    context: int = 128
    limit: float = 100
    device: str = "cpu"
    threads: int | None = None


def check(model: Architecture, setup: Setup) -> None:
    """Refuse what cannot be measured.

    Raises:
        UsageError: the model is no decoder, its positions are fewer than the context, or the setup is not for this.
    """
    if not model.head_width:
        raise UsageError(f"--measure: {model.name} is no language model; e.g. lorabench scale gpt2 --measure")
    if model.positions and setup.context > model.positions:
        raise UsageError(f"--context {setup.context}: {model.name} has {model.positions:,} positions")
    if setup.precision not in ("fp32", "bf16"):
        raise UsageError(f"--precision {setup.precision}: --measure trains in fp32 or bf16")
    if setup.device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {setup.device}: --measure runs on cpu or cuda")


def needed(model: Architecture, side: Training, setup: Setup) -> int:
    """Bytes that a process takes to train `model`, from above: its state, what a forward keeps, the process itself.

    A tied embedding has two gradients, of the head and of the lookup, and for a moment their sum.
    """
    of_a_value = PRECISIONS[setup.precision].weight
    state = training_bytes(side.held, side.trainable, PRECISIONS[setup.precision])
    largest = max(matrix.n * matrix.m for matrix in model.matrices) if side.label == "full" else 0
    # Inputs and outputs of each matrix, as much again of norms and activation functions; of the logits four copies.
    kept = sum(2 * (matrix.n + matrix.m) * matrix.layers for matrix in model.matrices) + 2 * model.matrix("head").m
    return state + of_a_value * (2 * largest + kept * setup.batch * setup.context) + PROCESS


def first_counts(most: int) -> list[int]:
    """The numbers of blocks to begin with: two that a line goes through and that are far from the largest, or one."""
    return [2, 4] if most >= 5 else [1, 2] if most >= 3 else [1]


def counts(layers: int, most: int, affordable: Callable[[int], bool]) -> list[int]:
    """The numbers of blocks to measure: the whole and two smaller ones, or as many as can be and a smaller one.

    Args:
        layers: of the whole model.
        most: blocks that memory allows.
        affordable: whether the time left is enough for so many, beside the first of these.
    """
    first = first_counts(most)
    if most == layers and affordable(layers):
        return [*(n for n in first if n < layers), layers]
    largest = next((n for n in range(most, first[0], -1) if affordable(n)), first[0])
    return sorted({first[0], largest})


class _Process:
    """A `trial` in a process of its own, which a Ctrl-C of the terminal does not reach."""

    def __init__(self, setup: Setup) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, str(_ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},  # steps this long lose nothing by threads that sleep
            text=True,
            start_new_session=True,
        )
        self._setup = setup

    def hello(self) -> dict[str, Any]:
        """Where it is; the first question.

        Raises:
            InputError: the device is not there.
        """
        return self.ask({"device": self._setup.device, "threads": self._setup.threads}, InputError)

    def ask(self, question: Mapping[str, Any], refusal: type[LorabenchError] = RunFailedError) -> dict[str, Any]:
        """The answer to a line.

        Raises:
            RunFailedError: the process ended.
            LorabenchError: a `refusal`, where the process could not do it.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        if not line:
            raise RunFailedError(f"a measuring process ended with {self._process.wait()}; is the memory full?")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise refusal(str(answer["error"]))
        return answer

    def end(self) -> None:
        """Whatever it does just now, end it."""
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()


_Answers = dict[str, dict[str, Any]]
"""Of `full` and `tuned`, or of `tuned` alone."""


@dataclass
class Trials:
    """Both sides, what they need, and the running processes: one for each side, of one number of blocks."""

    model: Architecture
    method: str
    options: Mapping[str, Any]
    targets: Sequence[str]
    setup: Setup
    folder: str
    tell: Callable[[str], None]
    running: dict[str, _Process] = field(default_factory=dict[str, _Process])

    @property
    def layers(self) -> int:
        """Blocks of the whole model."""
        return self.model.matrix("q").layers

    def needs(self, blocks: int) -> tuple[int, int]:
        """Bytes of the full side and of the method's."""
        cut = self.model.cut(blocks)
        sides = full(cut), train(cut, self.method, self.options, self.targets)
        return needed(cut, sides[0], self.setup), needed(cut, sides[1], self.setup)

    def most(self, budget: float, *, both: bool) -> int:
        """The largest number of blocks that fits, with both sides at once or the method's alone; 0: none does."""
        fits = (sum(self.needs(n)[0 if both else 1 :]) <= budget for n in range(1, self.layers + 1))
        return next((n for n, fit in enumerate(fits) if not fit), self.layers)

    def start(self, names: Sequence[str]) -> dict[str, Any]:
        """End the processes that there are, start one for each side, and hear where they are."""
        self.end()
        for name in names:  # they import torch side by side
            self.running[name] = _Process(self.setup)
        hellos = [process.hello() for process in self.running.values()]
        return hellos[0]

    def build(self, blocks: int) -> _Answers:
        """Let the process of each side build so many blocks and take its first steps."""
        answers: _Answers = {}
        for name, process in self.running.items():
            method = None if name == "full" else self.method
            self.tell(f"{blocks} of {self.layers} blocks, {method or name}: building, and two steps")
            question = {"name": self.model.name, "blocks": blocks, "method": method, "folder": self.folder}
            question |= {"options": dict(self.options), "targets": list(self.targets)}
            question |= {name: getattr(self.setup, name) for name in ("batch", "context", "precision")}
            answers[name] = process.ask(question)
        return answers

    def turn(self, name: str, blocks: int, answers: _Answers) -> dict[str, Any]:
        """Seconds of a step through the first `blocks` blocks: the mean of so many as `TURN` asks for."""
        steps = max(1, math.ceil(TURN / answers[name]["warm_s"]))
        return self.running[name].ask({"blocks": blocks, "steps": steps})

    def end(self) -> None:
        """End all processes."""
        while self.running:
            self.running.popitem()[1].end()


def measure(
    model: Architecture,
    method: str,
    options: Mapping[str, Any],
    targets: Sequence[str],
    setup: Setup,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Train `model`, or some of its blocks, fully and by `method` on the matrices `targets`.

    Returns:
        plain data: how it was measured, and for each number of blocks and each side its counts, bytes and seconds.

    Raises:
        UsageError: as `check`; or not one block fits into the memory.
        InputError: the device is not there.
        RunFailedError: a process died, or its memory ran out after all.
    """
    check(model, setup)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lorabench-") as folder, contextlib.ExitStack() as stack:
        trials = Trials(model, method, options, targets, setup, folder, tell)
        stack.callback(trials.end)
        hello = trials.start(("tuned", "full"))
        budget = SHARE * hello["free_bytes"] if hello["free_bytes"] else math.inf
        most = trials.most(budget, both=True)
        names, needs = ("full", "tuned") if most else ("tuned",), trials.needs(1)
        if not most:
            trials.running.pop("full").end()
            tell(f"full training of one block would take {size(needs[0])}, of {size(budget)} that may be taken")
            most = trials.most(budget, both=False)
        if not most:
            raise UsageError(
                f"--measure: one block of {model.name} and its embedding take {size(needs[1])} to train by {method} in "
                f"{setup.precision}, and {size(budget)} may be taken, {SHARE:.0%} of the free memory"
            )
        least, started = first_counts(most)[0], time.monotonic() - began
        answers = {least: trials.build(least)}
        built = time.monotonic() - began - started

        def affordable(blocks: int) -> bool:
            """Building so many blocks, and 3 rounds, as the smallest number of them lets foresee."""
            times = model.cut(blocks).total / model.cut(least).total
            steps = 3 * (times + 1) * sum(side["warm_s"] for side in answers[least].values())
            return time.monotonic() - began + started + times * built + steps <= setup.limit

        for blocks in counts(trials.layers, most, affordable)[1:]:
            trials.start(names)
            answers[blocks] = trials.build(blocks)
        rounds: list[dict[tuple[int, str], dict[str, Any]]] = []
        order, last = [(blocks, name) for blocks in answers for name in names], 0.0
        while not rounds or (len(rounds) < ROUNDS and time.monotonic() - began + last <= setup.limit):
            tell(f"round {len(rounds) + 1} of at most {ROUNDS}")
            start = time.monotonic()
            rounds.append({(n, name): trials.turn(name, n, answers[n]) for n, name in order})
            order.reverse()  # so that a machine whose speed drifts treats all alike
            last = time.monotonic() - start
    return {
        "measured": datetime.now(UTC).replace(microsecond=0).isoformat(),
        "architecture": model.name,
        "method": method,
        "options": dict(options),
        "targets": list(targets),
        **asdict(setup),
        **hello,
        "full_needs": needs[0],
        "counts": [
            {"blocks": n, **{name: {**side, **_columns(rounds, n, name)} for name, side in answers[n].items()}}
            for n in answers
        ],
    }


def _columns(rounds: Sequence[Mapping[tuple[int, str], Mapping[str, float]]], n: int, name: str) -> dict[str, Any]:
    """Seconds of a step, one for each round."""
    return {key: [turn[n, name][key] for turn in rounds] for key in ("gradients_s", "update_s")}
