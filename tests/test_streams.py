"""Output goes anywhere: another encoding, no width, a closed or a full stdout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lorabench
from lorabench.cli import streams
from lorabench.errors import quoted
from lorabench.runner.measure import own_config
from lorabench.runs import Store

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
    assert done.returncode == 5
    assert done.stderr.splitlines() == [b"lorabench: stdout: No space left on device"]
    script = f"exec {sys.executable} -m lorabench {' '.join(arguments)} >&-"
    closed = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize("streams", ["2>/dev/full", "2>&-", "<&- >&- 2>&-", ">&- 2>/dev/full"])
def test_nobody_who_listens_costs_no_run(tmp_path: Path, data_dir: Path, streams: str) -> None:
    """Nor does a file of the run get the number of a closed stream, and what a library prints."""
    command = f"exec {sys.executable} -m lorabench make-fmnist --data-dir {data_dir} --runs-dir {tmp_path} {streams}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (b"next  lorabench" in done.stdout) == (">&-" not in streams.replace("2>&-", ""))
    (run,), broken = Store(tmp_path).scan()
    assert (run.status, broken) == ("done", [])


def test_a_stderr_that_fills_up_midway_costs_no_result(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    script = (
        "import resource, signal, sys\n"
        "from lorabench.cli import stages, streams\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50)); signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "streams.fit()\n"
        "class Shared: quiet = False\n"
        "for number in range(9): stages.log(Shared, f'line {number} of many')\n"
        "print('the result'); sys.exit(5)\n"
    )
    with (tmp_path / "log").open("wb") as log:
        done = subprocess.run([sys.executable, "-c", script], stderr=log, check=False)
    assert done.returncode == 5
    assert (tmp_path / "log").read_bytes().startswith(b"line 0 of many\nline 1 of many\n")
    assert capfdbinary.readouterr().out == b"the result\n"


HOSTILE = os.fsdecode(b"r\xff \x1b[31m'x'\n\\\xc2\x85$(id)[bold]\xc3\xa9")


def test_a_folder_of_any_name_holds_runs_and_is_named_in_commands_that_can_be_typed(
    tmp_path: Path, data_dir: Path
) -> None:
    root = tmp_path / HOSTILE
    arguments = ["make-fmnist", "--data-dir", str(data_dir), "--runs-dir", str(root)]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    told = done.stdout + run(*arguments).stdout + done.stderr + run("report", "x", "--runs-dir", str(root)).stderr
    assert not set(told) & {7, 27, 0xFF}
    (made,), _ = Store(root).scan()
    assert own_config(made, Store(root)).fmnist.fraction == 0.3
    written = root / made.id / "config.yaml"
    header = written.read_text().splitlines()[1]
    for command, path in ((header.partition(" -c ")[2], written), (quoted(root), root), (quoted(tmp_path), tmp_path)):
        typed = subprocess.run(["bash", "-c", f"printf %s {command}"], capture_output=True, check=True)
        assert typed.stdout == os.fsencode(path)
    next_command = done.stdout.decode().splitlines()[-1].partition("next  lorabench ")[2]
    typed = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m lorabench {next_command} --dry-run"], capture_output=True, check=False
    )
    assert typed.returncode == 0, (next_command, typed.stderr)


def test_a_document_is_utf_8_whatever_the_console(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    script = "from lorabench.cli import streams; streams.fit(); streams.write_document('97 ± 1\\n\\n'); print('±')"
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONIOENCODING": "ascii"}, check=True)
    assert capfdbinary.readouterr().out == "97 ± 1\n+-\n".encode()
