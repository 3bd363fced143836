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

LADDER = {
    "errors": "",
    "events": "",
    "files": "",
    "stats": "",
    "query": "",
    "npz": "",
    "threads": "",
    "classifier": "",
    "spectrum": "",
    "checkpoint": "",
    "memory": "",
    "data": "files",
    "runs": "files npz",
    "model": "classifier",
    "methods": "checkpoint files model",
    "config": "data methods",
    "scale": "classifier checkpoint memory methods",
    "frozen": "model",
    "train": "threads frozen methods model",
    "evaluate": "model",
    "analysis": "stats query npz classifier config runs scale",
    "runner": "events npz threads classifier spectrum checkpoint memory data config runs model methods train evaluate",
    "exchange": "files checkpoint data config runs model methods evaluate runner",
    "sweep": "config runs methods analysis runner",
    "tune": "config runs methods analysis runner",
    "bench": "classifier model methods train analysis",
    "report": "files query classifier data config runs methods scale evaluate analysis exchange sweep tune",
    "cli": (
        "events files query threads classifier data config runs methods scale analysis runner exchange sweep tune "
        "bench report"
    ),
    "notebook": "config runs analysis runner report cli",
    "__init__": "",
    "__main__": "cli",
}
"""Every room, and the rooms before it that it may import, for its types too, beside `errors`."""

TORCH_FREE = {
    "errors",
    "events",
    "files",
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
    "notebook",
    "__init__",
}


WITH_TORCH = {ROOT / f"{name}.py" for name in ("runner/make", "runner/measure", "runner/session", "scale/trial")}
"""Files of these rooms that a command imports once it computes."""


def imports(path: Path, *, top_level: bool = False) -> set[str]:
    """Dotted names that a file imports; if `top_level`, those that it imports when it is imported itself."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if top_level and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
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


def test_the_ladder_has_every_room_and_no_rung_twice() -> None:
    assert {room(path) for path in files()} == set(LADDER)
    rooms = list(LADDER)
    assert [
        room for room, others in LADDER.items() if not {*others.split()} < {*rooms[: rooms.index(room)], room}
    ] == []


def test_the_tour_names_every_room() -> None:
    rooms = {room(path) for path in files()} - {"__init__", "__main__"}
    assert rooms <= set(re.findall(r"\w+", lorabench.__doc__ or ""))


def test_imports_point_one_way() -> None:
    upward = {
        f"{path.relative_to(ROOT)} imports {other}"
        for path in files()
        for other in {name.split(".")[1] for name in imports(path) if name.startswith("lorabench.")}
        - {room(path), "__version__", "errors", *LADDER[room(path)].split()}
    }
    assert not upward


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


def test_torch_is_imported_late_where_commands_must_be_quick() -> None:
    quick = {path for path in files() if room(path) in TORCH_FREE} - WITH_TORCH
    quick |= {ROOT / "methods" / "__init__.py", ROOT / "exchange" / "__init__.py"}
    slow = {"torch", "torchvision", "safetensors", "distributed"}
    early = {path: slow & {name.split(".")[0] for name in imports(path, top_level=True)} for path in quick}
    assert not {path: names for path, names in early.items() if names}


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["ls"],
        ["study", "--dry-run"],
        ["sweep", "--grid", "k=1,2", "--dry-run"],
        ["scale", "mlp"],
        ["explain"],
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


def test_what_computes_draws_nothing() -> None:
    assert not [path for path in (ROOT / "analysis").rglob("*.py") if "rich" in str(imports(path))]


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
