"""Output goes anywhere: another encoding, no width, a closed or a full stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lorabench
from lorabench.cli import streams

ROOT = Path(lorabench.__file__).parent


def run(*arguments: str, stdout: int = subprocess.PIPE, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "lorabench", *arguments],
        env={key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"} | env,
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


def test_every_character_of_ours_has_a_stand_in() -> None:
    ours = {c for path in ROOT.rglob("*.py") for c in path.read_text() if not c.isascii()} - {"�"}
    assert len(ours) > 30
    unreadable = {c for c in ours if not streams.readable(c).isascii() or streams.readable(c) == "?"}
    assert not unreadable
    assert [streams.readable(c) for c in "é½\udcff\U0001f600"] == ["e", "12", "?", "?"]
    assert [len(streams.readable(c)) for c in "▁▂▃▄▅▆▇█▀─┆├┤●"] == [1] * 14
    assert len({streams.readable(c) for c in "▁▂▃▄▅▆▇█"}) == 8, "a sparkline keeps its shape"


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "cp1252", "latin-1"])
def test_what_an_encoding_lacks_is_said_in_another_way(encoding: str) -> None:
    shown = run("finetune", "--help", PYTHONIOENCODING=encoding)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert ("sqrt k" in shown.stdout.decode(encoding)) == (encoding != "cp437")
    refused = run("report", "β", PYTHONIOENCODING=encoding)
    assert refused.returncode == 4
    assert "beta" in refused.stderr.decode(encoding)


@pytest.mark.parametrize("columns", ["0", "", "no number"])
@pytest.mark.parametrize("arguments", [["scale"], ["--help"]])
def test_no_width_is_the_usual_width(arguments: list[str], columns: str) -> None:
    usual = run(*arguments, COLUMNS=columns).stdout.decode()
    assert len(usual.splitlines()) > 5
    assert 60 < max(map(len, usual.splitlines())) <= 100


def test_a_width_is_kept_to() -> None:
    assert max(map(len, run("scale", COLUMNS="60").stdout.decode().splitlines())) <= 60


@pytest.mark.parametrize("arguments", [["scale"], ["scale", "--json"], ["--help"], ["--version"]])
def test_a_full_stdout_is_a_line_and_a_closed_one_is_none(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run(*arguments, stdout=full.fileno())
    assert done.returncode == 4
    assert done.stderr.count(b"\n") == done.stderr.count(b"lorabench: ") == 1
    script = f"exec {sys.executable} -m lorabench {' '.join(arguments)} >&-"
    closed = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_a_document_is_utf_8_whatever_the_console(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    script = "from lorabench.cli import streams; streams.fit(); streams.write_document('97 ± 1\\n\\n'); print('±')"
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True)
    assert capfdbinary.readouterr().out == "97 ± 1\n+-\n".encode()
