"""The rooms and the ladder between them: who may import whom, and who may import torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import lorabench
from lorabench.cli import app
from lorabench.errors import InputError
from lorabench.methods import METHODS
from lorabench.methods.lora import LoRALayer

ROOT = Path(lorabench.__file__).parent

LADDER: dict[str, set[str]] = {
    "errors": set(),
    "events": set(),
    "config": {"errors", "data"},
    "stats": {"errors"},
    "analysis": {"errors", "classifier", "config", "npz", "query", "scale", "stats", "runs"},
    "query": {"errors"},
    "npz": {"errors"},
    "runs": {"errors", "npz"},
    "report": {
        "errors",
        "analysis",
        "classifier",
        "config",
        "data",
        "methods",
        "npz",
        "query",
        "scale",
        "stats",
        "runs",
    },
    "data": {"errors"},
    "classifier": set(),
    "model": {"errors", "classifier"},
    "frozen": {"errors", "model"},
    "methods": {"errors", "model"},
    "memory": set(),
    "scale": {"errors", "checkpoint", "classifier", "memory", "methods"},
    "threads": set(),
    "train": {"errors", "frozen", "model", "threads"},
    "evaluate": {"errors", "model"},
    "spectrum": {"errors"},
    "checkpoint": {"errors"},
    "runner": {
        "errors",
        "events",
        "config",
        "data",
        "classifier",
        "model",
        "methods",
        "threads",
        "train",
        "evaluate",
        "spectrum",
        "checkpoint",
        "npz",
        "runs",
    },
    "exchange": {"errors", "checkpoint", "config", "data", "evaluate", "methods", "model", "runs", "runner"},
}
"""What a room may import. Rooms not listed see all of them."""

EVERYTHING = {
    "__init__",
    "__main__",
    "bench",
    "sweep",
    "tune",
    "cli",
}
"""The rooms that may import every other."""

TORCH_FREE = {
    "errors",
    "events",
    "config",
    "query",
    "stats",
    "analysis",
    "runs",
    "report",
    "classifier",
    "scale",
    "runner",
    "sweep",
    "tune",
    "cli",
}


WITH_TORCH = {ROOT / "runner" / f"{name}.py" for name in ("load", "make", "session")}
"""Files of these rooms that a command imports once it computes."""


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Dotted names that a file imports, those for type checkers alone left out."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
        if top_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Pass()]
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def test_every_room_was_seen() -> None:
    rooms = {room(path) for path in files()}
    assert set(LADDER) <= rooms
    assert rooms - set(LADDER) <= EVERYTHING


def test_the_tour_names_every_room() -> None:
    rooms = {room(path) for path in files()} - {"__init__", "__main__"}
    assert rooms <= set(re.findall(r"\w+", lorabench.__doc__ or ""))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    allowed = LADDER.get(room(path))
    if allowed is None:
        assert room(path) in EVERYTHING
        return
    own = {name.split(".")[1] for name in imports(path) if name.startswith("lorabench.") and name.count(".")}
    assert own - {room(path), "__version__"} <= allowed


def test_the_terminals_writer_alone_knows_rich() -> None:
    drawing = (ROOT / "report").rglob("*.py")
    assert {path.name for path in drawing if any(name.split(".")[0] == "rich" for name in imports(path))} == {
        "terminal.py"
    }


@pytest.mark.parametrize("path", sorted((ROOT / "methods").glob("*.py")), ids=lambda path: path.name)
def test_methods_know_no_sibling(path: Path) -> None:
    siblings = {name.replace("-", "_") for name in METHODS}
    used = {name.split(".")[2] for name in imports(path) if name.startswith("lorabench.methods.")}
    assert not used & siblings


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_is_imported_late_where_commands_must_be_quick(path: Path) -> None:
    quick = room(path) in TORCH_FREE and path not in WITH_TORCH
    if quick or path in {ROOT / "methods" / "__init__.py", ROOT / "exchange" / "__init__.py"}:
        assert not {name.split(".")[0] for name in imports(path, top_level=True)} & {
            "torch",
            "torchvision",
            "safetensors",
            "distributed",
        }


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["ls"],
        ["study", "--dry-run"],
        ["sweep", "--grid", "k=1,2", "--dry-run"],
        ["scale", "mlp"],
        ["--show-completion", "bash"],
    ],
)
def test_quick_commands_import_no_torch(command: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from lorabench.cli import main\n"
        f"sys.argv = ['lorabench', *{command!r}]\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert not {'torch', 'scipy', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
    )
    # The name of the shell is then taken from the command line, not guessed from who started the tests.
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "analysis").glob("*.py")), ids=lambda path: path.name)
def test_what_computes_draws_nothing(path: Path) -> None:
    assert "rich" not in {name.split(".")[0] for name in imports(path)}


def test_a_reader_goes_from_the_command_to_lora_through_eight_files(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    birth, paths = LoRALayer.__init__, list[str]()

    def seen(self: LoRALayer, *args: Any, **kwargs: Any) -> None:
        files = dict.fromkeys(frame.filename for frame in traceback.extract_stack())
        own = [str(Path(name).relative_to(ROOT)) for name in files if Path(name).is_relative_to(ROOT)]
        paths.extend(own[own.index("cli/make.py") :])
        birth(self, *args, **kwargs)
        raise InputError("far enough")

    monkeypatch.setattr(LoRALayer, "__init__", seen)
    options = ["--runs-dir", str(tmp_path), "--data-dir", str(data_dir), "-s", "pretrain.epochs=1"]
    CliRunner().invoke(app, ["finetune-lora", *options, "-s", "pretrain.batch_size=4096"])
    assert paths[0] == "cli/make.py"
    assert paths.index("methods/lora.py") < 8, paths  # which then has `wrap` call LoRALayer
