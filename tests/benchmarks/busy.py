"""A busy machine must not ruin a run: commands beside processes that spin, on one thread and on the default number.

    python tests/benchmarks/busy.py                # beside 0, 1, 2 and 4 of them, three rounds: about 15 minutes
    python tests/benchmarks/busy.py --rounds 1 --beside 2

Prints a table in Markdown: the median seconds of each command with `--threads 1` and without, in rounds that alternate,
and the median (range) of the rounds' ratios; the worst median is the last line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

COMMANDS = {
    "pretrain": ["pretrain", "-s", "pretrain.epochs=1"],
    "finetune-lora": ["finetune-lora", "-s", "finetune.epochs=1"],
    "finetune full": ["finetune", "full", "-s", "finetune.epochs=1"],
    "study, one seed": ["study", "--seeds", "0", "-s", "pretrain.epochs=1", "-s", "finetune.epochs=1"],
}


@contextlib.contextmanager
def spinning(count: int) -> Generator[None]:
    """Inside, so many processes do nothing, as fast as they can."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(arguments: list[str], folder: Path, *more: str) -> float:
    """What the command takes; its parents are there before."""
    command = [sys.executable, "-m", "lorabench", *arguments, "--quiet", "--force", "--runs-dir", str(folder), *more]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", type=int, nargs="*", default=[0, 1, 2, 4])
    asked = parser.parse_args()
    worst = 0.0
    print(f"{asked.rounds} alternating rounds, {time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores\n")
    print("| command | beside | seconds with `--threads 1` | as it is | ratio |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for arguments in COMMANDS.values():
            seconds(arguments, Path(scratch))
        for beside in asked.beside:
            for name, arguments in COMMANDS.items():
                with spinning(beside):
                    rounds = [
                        (seconds(arguments, Path(scratch), "--threads", "1"), seconds(arguments, Path(scratch)))
                        for _ in range(asked.rounds)
                    ]
                alone, default = (statistics.median(column) for column in zip(*rounds, strict=True))
                ratios = sorted(default / alone for alone, default in rounds)
                middle = statistics.median(ratios)
                worst = max(worst, middle)
                spread = f"{middle:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
                print(f"| {name} | {beside} | {alone:.2f} | {default:.2f} | {spread} |", flush=True)
    print(f"\nworst ratio {worst:.2f}")


if __name__ == "__main__":
    main()
