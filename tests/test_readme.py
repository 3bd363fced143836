"""Every command of README.md, typed in its order in one folder, of lorabench as a wheel installs it.
Long ones have quick settings, or are a dry run.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from command_line import CommandLine
from conftest import take_few

import lorabench

ROOT = Path(__file__).parent.parent
QUICK = [f"-s{text}" for text in ("pretrain.epochs=1", "finetune.epochs=1", "holdout=5000", "study.workers=1")]
TRAINING = {"pretrain", "make-fmnist", "finetune-lora", "finetune", "study", "sweep"}
INSTEAD = {
    "bench": ["bench", "bitfit", "--rounds", "1", "--steps", "2"],
    "tune -c methods": ["tune", "-c", "methods", "--dry-run"],
    "study -c methods": ["study", "-c", "methods", "--dry-run"],
    "study -c study": ["study", "-c", "study", "--seeds", "0", *QUICK],
    "study --seeds 0-9 --k 8": ["study", "--seeds", "0-1", "--k", "8", *QUICK],
    "sweep --grid k=1,2,4,8 --grid lora.lr=1e-2,3e-2 --seeds 0-1 -s holdout=5000 -j 2 --runs-dir grid": [
        *("sweep", "--grid", "k=2,4", "--grid", "lora.lr=1e-2,3e-2", "--seeds", "0", "--runs-dir", "grid", *QUICK)
    ],
    "scale gpt2 --measure": ["scale", "toy", "--measure", "--limit", "1"],
    "study --engine dask://HOST:8786": ["study", "--engine", "dask://HOST:8786", "--dry-run"],
    "finetune-lora -c typo.yaml": ["finetune-lora", "-c", "typo.yaml"],
}
"""What is typed in place of a command that takes minutes, or another machine."""
CODES = {"study -c study": 6, "report lora-k4-s0 --fail-on": 6, "finetune-lora -c typo.yaml": 3}
"""A run of one epoch misses the figures that two of these ask for; all other commands exit with 0."""


def walk() -> None:
    """Type README.md from top to bottom in this folder, over a tenth of MNIST."""
    take_few(pytest.MonkeyPatch())
    readme = (ROOT / "README.md").read_text()
    lines = re.findall(r"^    (?:\$ )?lorabench ([a-z].*)$", readme, re.MULTILINE)
    assert len(lines) > 30
    Path("typo.yaml").write_text("finetune:\n  epocs: 2\n")
    cli = CommandLine(Path("runs"), Path(os.environ["LORABENCH_DATA"]))
    named: dict[str, str] = {}
    for line in lines:
        words = shlex.split(line, comments=True)
        text = shlex.join(words)
        typed = INSTEAD.get(text) or [*words, *(QUICK if words[0] in TRAINING else [])]
        for word, pattern in (("DIR", "*-peft"), ("FILE.safetensors", "*-merged/*.safetensors")):
            for path in Path("exports").glob(pattern):
                named[word] = str(path)
        typed = [named.get(word, word) for word in typed]
        code = next((code for start, code in CODES.items() if text.startswith(start)), 0)
        done = cli.run(*typed, code=code)
        if code == 6:
            assert "exit 6" in line
        elif code == 3:  # whose answer README shows
            assert f"    {done.stderr}" in readme


@pytest.mark.slow
def test_the_readme_can_be_typed_from_top_to_bottom(tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    python = with_a_wheel(tmp_path) if Path(lorabench.__file__).is_relative_to(ROOT) else sys.executable
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests"), "LORABENCH_DATA": str(data_dir)}
    script = "import test_readme; test_readme.walk()"
    typed = [python, "-W", "error", "-c", f"import lorabench, sys; assert sys.prefix in lorabench.__file__; {script}"]
    done = subprocess.run(typed, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def with_a_wheel(tmp_path: Path) -> Path:
    """The Python of an environment that has a wheel of this checkout, for tests that run on the checkout itself."""
    source, environment = tmp_path / "source", tmp_path / "environment"
    for name in ("lorabench", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    outside = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # may name an installed checkout
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    offline = ["--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "-w", tmp_path, source], check=True, env=outside)
    venv.create(environment, symlinks=os.name != "nt")
    python = environment / ("Scripts" if os.name == "nt" else "bin") / Path(sys.executable).name
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", *offline, wheel], check=True, env=outside)
    # What lorabench needs is that of these tests. Paths that a .pth file names are not searched for .pth files: an
    # editable lorabench is not found there.
    (site,) = environment.rglob("site-packages")
    (site / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return python
