"""The child process that downloads: silent for the user, watched, and ended with all that it started."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest

from lorabench.data import child

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Module = Callable[..., str]


def nothing(done: int) -> None:
    """For a caller who does not count."""


def test_child_counts_bytes_and_says_nothing(module: Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = module("""
print('out'); print('err', file=sys.stderr)
(root / 'a.gz').write_bytes(bytes(70))
(root / 'a').write_bytes(bytes(700))
time.sleep(1)
""")
    seen: list[int] = []
    assert child.run(name, tmp_path, ".gz", seen.append) is None
    assert seen == [70]
    assert capfd.readouterr() == ("", "")


def test_child_sees_temporary_files_too(module: Module, tmp_path: Path) -> None:
    name = module("""
import tempfile
file = tempfile.NamedTemporaryFile()
file.write(bytes(70))
file.flush()
time.sleep(1)
""")
    seen: list[int] = []
    (tmp_path / "scratch").mkdir()
    assert child.run(name, tmp_path / "scratch", "", seen.append) is None
    assert seen[-1] == 70


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("print('one\\nERROR: two\\n\\n', file=sys.stderr)\nsys.exit(3)", "two"),
        ("raise OSError('no such host')", "OSError: no such host"),
        ("os._exit(1)", "it ended without a word"),
    ],
)
def test_child_reason_is_the_last_line(lines: str, reason: str, module: Module, tmp_path: Path) -> None:
    assert child.run(module(lines), tmp_path, "", nothing) == reason


def test_child_that_falls_silent_is_ended_with_all_it_started(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "QUIET_S", 1.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        grandchild = f"import socket, time; s = socket.create_connection({address}); time.sleep(60)"
        # It works for longer than QUIET_S, but is not silent for so long before its end.
        name = module(f"""
process = subprocess.Popen([sys.executable, '-c', {grandchild!r}])
with child.online(root):
    for n in range(1, 6):
        time.sleep(0.5)
        (root / 'part').write_bytes(bytes(10 * n))
    process.wait()
""")
        began = time.monotonic()
        seen: list[int] = []
        assert child.run(name, tmp_path / "modules", "part", seen.append) == "no byte came for 1.5 s"
        assert seen == [10, 20, 30, 40, 50]
        assert time.monotonic() - began < 20
        connection, _ = server.accept()
        with connection:
            connection.settimeout(5)
            assert connection.recv(1) == b""  # its other end is dead


def test_child_may_be_silent_while_it_is_not_online(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "QUIET_S", 0.3)
    name = module("time.sleep(1)\nwith child.online(root): pass\ntime.sleep(1)")
    assert child.run(name, tmp_path, "", nothing) is None


def test_child_imports_nothing_from_where_the_user_stands(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    assert child.run(module("import json"), tmp_path, "", nothing) is None
