"""The child process that downloads: silent for the user, watched, and ended with all that it started."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lorabench.data import fetch

if TYPE_CHECKING:
    Module = Callable[..., str]


# The child waits until its bytes were counted, so that no test depends on how fast this machine is.
WAIT = """
def wait(count):
    while not (root / f'{count}.seen').exists():
        time.sleep(0.02)
"""


def nothing(*_: object) -> None:
    """For a caller who does not count."""


def download(module: str, folder: Path, progress: fetch.Progress, suffix: str) -> str | None:
    return fetch.download(fetch.Way("a test's", f"{module}:main", suffix, 1000), folder, progress)


class Counter(list[int]):
    """Counts, and tells the child in `folder` what it has counted."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __call__(self, way: str, done: int, total: int | None) -> None:
        self.append(done)
        (self.folder / f"{done}.seen").touch()


def test_child_counts_bytes_and_says_nothing(module: Module, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    name = module(f"""{WAIT}
print('out'); print('err', file=sys.stderr)
(root / 'a.gz').write_bytes(bytes(70))
(root / 'a').write_bytes(bytes(700))
wait(70)
""")
    seen = Counter(tmp_path)
    assert download(name, tmp_path, seen, ".gz") is None
    assert seen == [70]
    assert capfd.readouterr() == ("", "")


def test_child_sees_temporary_files_too(module: Module, tmp_path: Path) -> None:
    name = module(f"""{WAIT}
import tempfile
file = tempfile.NamedTemporaryFile()
file.write(bytes(70))
file.flush()
wait(70)
""")
    folder = tmp_path / "scratch"
    folder.mkdir()
    seen = Counter(folder)
    assert download(name, folder, seen, "") is None
    assert seen[-1] == 70


def test_child_whose_file_shrinks_is_not_counted_backwards(module: Module, tmp_path: Path) -> None:
    name = module(f"""{WAIT}
for size in (70, 30, 80):
    (root / 'new').write_bytes(bytes(size))
    (root / 'new').rename(root / 'a.gz')
    time.sleep(0.5)
wait(80)
""")
    seen = Counter(tmp_path)
    assert download(name, tmp_path, seen, ".gz") is None
    assert seen == sorted(seen)
    assert seen[-1] == 80


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("print('one\\nERROR: two\\n\\n', file=sys.stderr)\nsys.exit(3)", "two"),
        ("raise OSError('no such host')", "OSError: no such host"),
        ("os._exit(1)", "it ended without a word"),
    ],
)
def test_child_reason_is_the_last_line(lines: str, reason: str, module: Module, tmp_path: Path) -> None:
    assert download(module(lines), tmp_path, nothing, "") == reason


@pytest.mark.slow
def test_child_that_falls_silent_is_ended_with_all_it_started(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "QUIET_S", 5.0)
    folder = tmp_path / "modules"
    connected = str(folder / "connected.seen")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        grandchild = (
            f"import socket, time; s = socket.create_connection({address}); open({connected!r}, 'w'); time.sleep(300)"
        )
        # It works for longer than QUIET_S, but is not silent for so long before its end.
        name = module(f"""{WAIT}
process = subprocess.Popen([sys.executable, '-c', {grandchild!r}])
wait('connected')
with fetch.online(root):
    began, n = time.monotonic(), 0
    while time.monotonic() - began < 6:
        n += 10
        (root / 'new').write_bytes(bytes(n))
        (root / 'new').rename(root / 'part')
        wait(n)
    process.wait()
""")
        seen = Counter(folder)
        assert download(name, folder, seen, "part") == "no byte came for 5 s"
        assert len(seen) > 1
        assert seen == [10 * n for n in range(1, len(seen) + 1)]
        server.settimeout(60)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            assert connection.recv(1) == b""  # its other end is dead


def test_child_may_be_silent_while_it_is_not_online(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "QUIET_S", 1.5)
    name = module("time.sleep(2)\nwith fetch.online(root): pass\ntime.sleep(2)")
    assert download(name, tmp_path, nothing, "") is None


def test_child_imports_nothing_from_where_the_user_stands(
    module: Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    assert download(module("import json"), tmp_path, nothing, "") is None
