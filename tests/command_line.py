"""The command line as a user has it: one command after the other in this process, or one under way in another.

A command in this process needs no second import of torch; one that must be killed, watched or timed gets its own.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from lorabench import cli

PATIENCE = 120.0
"""Seconds after which what should have come counts as never coming."""
SHORT = ["-s", "pretrain.epochs=1", "-s", "pretrain.lr=5e-3", "-s", "finetune.epochs=1", "--threads", "1"]
"""Settings of runs that are good enough for their numbers to mean something, a second each."""
QUICK = [*SHORT, "-s", "holdout=1000", "-s", "pretrain.batch_size=2048", "-s", "finetune.batch_size=2048"]
"""Settings of runs that are merely there."""


class CommandLine:
    """A runs folder, and the commands on it."""

    def __init__(self, runs: Path, data: Path) -> None:
        self.runs = runs
        self.env = {
            **os.environ,
            "LORABENCH_RUNS": str(runs),
            "LORABENCH_DATA": str(data),
            "COLUMNS": "80",
            "NO_COLOR": "1",
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "lorabench", *arguments]

    def start(self, *arguments: str, **env: str) -> Started:
        return Started(self.command(*arguments), self.env | env, self.runs.with_name(f"{uuid.uuid4().hex}.log"))

    def process(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A command in a process of its own, to its end."""
        done = subprocess.run(
            self.command(*arguments), env=self.env, capture_output=True, text=True, check=False, cwd=self.runs.parent
        )
        return ended(done, code)

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """A command in this process, which is afterwards as it was."""
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n", write_through=True) for _ in range(2))
        threshold, status = gc.get_threshold(), 0
        with (
            mock.patch.dict(os.environ, self.env, clear=True),
            mock.patch.object(sys, "argv", ["lorabench", *arguments]),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            contextlib.chdir(self.runs.parent),
        ):
            try:
                cli.main()
            except SystemExit as stop:
                status = int(stop.code or 0)
        gc.set_threshold(*threshold)
        gc.unfreeze()
        texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # pyright: ignore[reportAttributeAccessIssue]
        return ended(subprocess.CompletedProcess(arguments, status, *texts), code)

    def fails(self, code: int, *arguments: str) -> str:
        """The message of a command that must fail, which with --json is on stderr and on stdout."""
        done = self.run(*arguments, "--json", code=code)
        document = json.loads(done.stdout)
        assert document["error"]["exit_code"] == code
        assert all(line in done.stderr for line in document["error"]["messages"])
        return "\n".join(document["error"]["messages"])

    def json(self, *arguments: str) -> dict[str, Any]:
        return json.loads(self.run(*arguments, "--json").stdout)

    def records(self) -> dict[str, dict[str, Any]]:
        return {path.parent.name: json.loads(path.read_text()) for path in self.runs.glob("*/run.json")}

    def only(self, start: str) -> str:
        """The id of the one run whose id begins so."""
        (run_id,) = (run_id for run_id in self.records() if run_id.startswith(start))
        return run_id

    def predictions(self, run_id: str) -> dict[str, Any]:
        with np.load(self.runs / run_id / "predictions.npz") as file:
            return {name: file[name] for name in file.files}


def ended(done: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    """A command that ended with this exit code, and without a traceback unless it was asked for one."""
    assert done.returncode == code, f"{done.args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert ("Traceback" in done.stderr) == ("--debug" in done.args), done.stderr
    return done


class Started:
    """A command under way. What it says goes to a file: it never waits for a reader, and no buffer keeps a line."""

    def __init__(self, command: Sequence[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=file)

    def said(self) -> str:
        return self.log.read_text()

    def line(self, text: str) -> str:
        """The first line with `text`, once it is there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            ended = self.process.poll() is not None
            for line in self.said().splitlines(keepends=True):
                if text in line and line.endswith("\n"):
                    return line.rstrip()
            if ended or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(f"it never said {text!r}:\n{self.said()}")
            time.sleep(0.02)

    def end(self) -> str:
        """All that it said, once it has ended."""
        try:
            self.process.wait(2 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return self.said()
