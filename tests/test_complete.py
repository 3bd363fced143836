"""What the shell offers where a value is due: asked as a shell asks, and in a real bash, and zsh where there is one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from report_factory import finetune, pretrain
from typer.testing import CliRunner

from lorabench.cli import app
from lorabench.exchange import TARGETS
from lorabench.methods.registry import METHODS
from lorabench.report import writers
from lorabench.runs import Store


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a base, a fine-tune that is the newest, a study and a damaged record."""
    store = Store(tmp_path_factory.mktemp("complete") / "runs")
    for run in (finetune(), pretrain()):  # the newest folder is not that of the newest run
        folder = store.path(run.id)
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(run.model_dump_json(by_alias=True))
    (store.root / "head-s0-00000000").mkdir()
    (store.root / "head-s0-00000000" / "run.json").write_text("{")
    store.remember_study("mine", [finetune().id])
    return store.root


def offered(runs: Path, line: str, shell: str = "bash") -> list[str]:
    """What is offered for the last word of a command line; an empty one where it ends in a space."""
    words = shlex.split(line) + [""] * line.endswith(" ")
    env = {"LORABENCH_RUNS": str(runs), "_LORABENCH_COMPLETE": f"complete_{shell}"}
    env |= {"COMP_WORDS": shlex.join(words), "COMP_CWORD": str(len(words) - 1), "_TYPER_COMPLETE_ARGS": line}
    return CliRunner().invoke(app, [], env=env, prog_name="lorabench").stdout.split("\n")[:-1]


IDS = [finetune().id, pretrain().id, "head-s0-00000000"]

OFFERS = {
    "lorabench report ": IDS,
    "lorabench report x --baseline l": IDS[:1],
    "lorabench export x --to ": list(TARGETS),
    "lorabench import-peft x --base pre": IDS[1:2],
    "lorabench finetune-lora --base pre": IDS[1:2],
    "lorabench evaluate x ": IDS,
    "lorabench rm ": IDS,
    "lorabench explain ": [*METHODS, *IDS],
    "lorabench report --study ": ["mine"],
    "lorabench finetune ": list(METHODS),
    "lorabench bench do": ["dora"],
    "lorabench scale --method do": ["dora"],
    "lorabench scale llama-3-7": ["llama-3-70b"],
    "lorabench scale --precision f": ["fp32", "fp16"],
    "lorabench finetune-lora --targets fc1,": ["fc1,fc2", "fc1,fc3"],
    "lorabench finetune-lora --init ": ["talk", "kaiming", "gaussian", "orthogonal"],
    "lorabench finetune adapter --init ": ["houlsby", "zero"],
    "lorabench report --format ": list(writers.FORMATS),
    "lorabench make-fmnist --axis v": ["vertical"],
    "lorabench study --device c": ["cpu", "cuda"],
    "lorabench study -c me": ["methods"],
    "lorabench study -c configs/q": ["configs/quick.yaml"],
    "lorabench study -s finetune.init=": [
        f"finetune.init={word}" for word in ("talk", "kaiming", "gaussian", "orthogonal")
    ],
    "lorabench study -s finetune.ep": ["finetune.epochs=4"],
    "lorabench study -s reuse=": ["reuse=true", "reuse=false"],
    "lorabench study -s finetune.targets=fc3,fc1": ["finetune.targets=fc3,fc1"],
    "lorabench study -s fmnist.c": ["fmnist.classes=2,3"],
    "lorabench finetune prompt -s finetune.v": [
        f"finetune.variant={word}" for word in ("additive", "border", "reprogram", "deep")
    ],
    "lorabench sweep --grid finetune.method=do": ["finetune.method=dora"],
    "lorabench ls --sort k,-fmnist.acc": ["k,-fmnist.accuracy"],
    "lorabench ls --cols id,fmnist.acc": ["id,fmnist.accuracy"],
    "lorabench ls --where 'k >= 4 and fmnist.acc": ["k >= 4 and fmnist.accuracy"],
}


@pytest.mark.parametrize("line", OFFERS)
def test_values_are_offered(line: str, runs: Path) -> None:
    words = line + "'" if line.count("'") % 2 else line
    assert offered(runs, words) == OFFERS[line]


def test_runs_are_described_where_the_shell_shows_it(runs: Path) -> None:
    text = "\n".join(offered(runs, "lorabench report ", "zsh"))
    assert f'"{IDS[0]}":"lora k 4 seed 0  F-MNIST 97.74%"' in text
    assert f'"{IDS[2]}":"cannot be read"' in text


def test_there_is_nothing_to_offer_where_there_are_no_runs(tmp_path: Path) -> None:
    for line in ("lorabench report ", "lorabench ls --cols f"):
        assert offered(tmp_path / "none", line) == [""]


BASH = """
eval "$(_LORABENCH_COMPLETE=source_bash lorabench)"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_lorabench_completion lorabench
printf '%s\\n' "${COMPREPLY[@]}"
"""
ZSH = """
compdef() {}; _arguments() { print -r -- "$@" }
eval "$(_LORABENCH_COMPLETE=source_zsh lorabench)"
words=("$@") CURRENT=$#
_lorabench_completion
"""


def ask(script: str, shell: str, runs: Path, *words: str) -> str:
    """What a shell's own completion function gives; the program that it calls must not load torch."""
    program = runs.parent / "lorabench"
    told = 'atexit.register(lambda: "torch" in sys.modules and print("torch", file=sys.stderr))'
    program.write_text(f"#!{sys.executable}\nimport atexit, sys\n{told}\nfrom lorabench.__main__ import main\nmain()\n")
    program.chmod(0o755)
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}", "LORABENCH_RUNS": str(runs)}
    done = subprocess.run([shell, "-c", script, shell, *words], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("words", "offer"),
    [
        (["report", ""], sorted(IDS)),
        (["study", "-s", "finetune.init", "=", "ta"], ["talk"]),
        (["study", "-s", "finetune.init", "="], ["gaussian", "kaiming", "orthogonal", "talk"]),
        (["ls", "--cols", "id,fmnist.acc"], ["id,fmnist.accuracy"]),
    ],
    ids=["run", "choice", "equals", "field"],
)
def test_bash(words: list[str], offer: list[str], runs: Path) -> None:
    """bash takes `=` for a word of its own, and puts what it is given in place of the word behind it."""
    assert sorted(ask(BASH, "bash", runs, "lorabench", *words).split()) == offer


if shutil.which("zsh"):

    def test_zsh(runs: Path) -> None:
        text = ask(ZSH, "zsh", runs, "lorabench", "report", "lora")
        assert IDS[0] in text
        assert "97.74%" in text
        assert IDS[1] not in text
