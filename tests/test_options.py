"""The options of every command: it has those that it reads, and no others."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from lorabench import cli, tune
from lorabench.cli import app, options
from lorabench.errors import InputError
from lorabench.runner.engines import processes
from lorabench.runs import Store

ROOT = Path(__file__).parent.parent
FOLDER = "my [b]runs"
"""A folder whose name a shell and Rich would take for something else."""

OUTPUT = {"--json", "--debug"}
RUNS = {*OUTPUT, "--quiet", "--runs-dir"}
IMAGES = {*RUNS, "--data-dir"}
DEVICE = {"--device", "--threads"}
MAKING = {*IMAGES, "--config", "--set", "--seed", "--dry-run", "--force", "--no-wait"}

SHARED: dict[str, set[str]] = {
    "pretrain": MAKING | DEVICE,
    "make-fmnist": MAKING,
    "finetune-lora": MAKING | DEVICE,
    "finetune": MAKING | DEVICE,
    "study": MAKING | DEVICE,
    "tune": MAKING | DEVICE,
    "sweep": MAKING | DEVICE,
    "bench": RUNS | DEVICE,
    "evaluate": IMAGES | DEVICE,
    "explain": {*OUTPUT, "--runs-dir"},
    "report": IMAGES,
    "ls": {*OUTPUT, "--runs-dir"},
    "rm": {*RUNS, "--dry-run"},
    "scale": RUNS | DEVICE | {"--config", "--set"},
    "export": {*IMAGES, *DEVICE, "--dry-run", "--force"},
    "import-peft": {*IMAGES, *DEVICE, "--dry-run", "--force", "--no-wait"},
    "import-base": {*IMAGES, *DEVICE, "--dry-run", "--force", "--no-wait"},
}
"""Of the options that several commands have, those of each."""

ALL = sorted(set[str]().union(*SHARED.values()))
VALUES = {
    "--config": "x.yaml",
    "--set": "seed=1",
    "--seed": "1",
    "--runs-dir": "x",
    "--data-dir": "x",
    "--device": "cpu",
    "--threads": "1",
}
NEEDED = {
    "finetune": ["lora"],
    "evaluate": ["@last"],
    "rm": ["@last"],
    "export": ["@last", "--to", "peft"],
    "import-peft": ["x", "--base", "y"],
    "import-base": ["x"],
}
"""What a command cannot do without."""


def parse(arguments: Sequence[str]) -> None:
    """Read a command line as `lorabench` does, and do nothing.

    Raises:
        typer.TyperException: it is none.
    """
    group: Any = typer.main.get_command(app)
    group.commands[arguments[0]].make_context(arguments[0], list(arguments[1:]))


def test_every_command_is_in_the_table() -> None:
    group: Any = typer.main.get_command(app)
    assert set(group.commands) == set(SHARED)


@pytest.mark.parametrize("option", ALL)
@pytest.mark.parametrize("command", SHARED)
def test_a_command_takes_the_options_of_its_kind_alone(command: str, option: str) -> None:
    arguments = [command, *NEEDED.get(command, []), option, *([VALUES[option]] if option in VALUES else [])]
    if option in SHARED[command]:
        parse(arguments)
    else:
        with pytest.raises(typer.TyperException, match=f"No such option: {option}") as refused:
            parse(arguments)
        assert getattr(refused.value, "exit_code", None) == 2


WITHOUT = {"--set", "--config", "--write-idx", "--alpha", "--seed", "--engine", "--grid", "--show-errors", "--out"} | {
    "--fail-on",
    "--figures",
    "--study",
    "--where",
    "--sort",
    "--limit",
    "--cols",
    "--sizes",
    "--to",
    "--base",
}
"""Options that have no default."""


def helped(*arguments: str) -> dict[str, str]:
    """What the help says of each option, and below "" what it says after them."""
    shown = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "300", "TERMINAL_WIDTH": "300"}).output
    assert not re.search("<bool>|<bound", shown)
    rows = re.findall(r"^│[ *]+(?:(--[\w-]+)|(\w+)) .*? {2,}(\S.*?) *│$", shown, re.MULTILINE)
    return {long or name: text for long, name, text in rows} | {"": shown.rpartition("╯")[2]}


def test_help_shows_the_defaults_of_the_config() -> None:
    assert "[default: 0.015]" in helped("pretrain")["--lr"]
    assert "[default: 2,3]" in helped("make-fmnist")["--classes"]
    study, tuned = helped("study"), helped("tune")
    assert "[default: 0-4]" in study["--seeds"]
    assert "[default: 4]" in study["--k"]
    assert "default" not in study["--seed"]
    assert tuned["--seeds"].endswith("default: 0.")
    group: Any = typer.main.get_command(app)
    for name in set(SHARED) - {"finetune"}:  # whose defaults are those of a method
        shown = helped(name)
        for parameter in group.commands[name].params:
            if not getattr(parameter, "is_flag", True) and not WITHOUT & {*parameter.opts}:
                assert "default: " in shown[next(o for o in parameter.opts if o in shown)], (name, parameter.opts)


def test_the_help_of_a_method_is_of_it_alone() -> None:
    every, dora, adapter = helped("finetune"), helped("finetune", "dora"), helped("finetune", "adapter", "--lr", "1")
    assert {"--k", "--init", "--alpha"} <= every.keys()
    assert "default" not in every["--k"]
    assert re.search(r"^ *dora +6,642  k=4 *$", every[""], re.MULTILINE)
    assert dora["--k"].endswith("[default: 4]")
    assert dora["--lr"].endswith("[default: 0.03]")
    assert not {"--init", "--alpha"} & dora.keys()
    assert "6,642" in dora[""]
    assert "6,248" not in dora[""]
    assert "--k" not in adapter
    assert adapter["--init"].endswith("[default: houlsby]")
    assert adapter["--targets"].endswith("[default: fc2,fc3]")
    assert "-s finetune.bottleneck=8" in adapter[""]
    assert helped("finetune-lora")["--init"].endswith("[default: talk]")


TINY = ["holdout=1000", "pretrain.epochs=1", "finetune.epochs=1", "study.workers=1", "study.seeds=0"]
SETS = [word for text in TINY for word in ("--set", text)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with a fine-tuned run, and beside it a PEFT folder."""
    folder = tmp_path_factory.mktemp("options")
    command(folder, "finetune-lora", *SETS)
    command(folder, "export", "lora-k4-s0", "--to", "peft", "--out", str(folder / "peft"))
    weights = next((folder / FOLDER).glob("pretrain-s0-*")) / "model.safetensors"
    shutil.copy(weights, folder / "base.safetensors")
    return folder


@pytest.fixture(autouse=True)
def _few_images(few_images: Path) -> None:
    """What a run of these tests has learnt does not matter."""


def command(folder: Path, *arguments: str, code: int = 0) -> str:
    """What a command says, run in this process on the runs of `folder`."""
    done = CliRunner().invoke(app, [*arguments, "--runs-dir", str(folder / FOLDER)])
    assert done.exit_code == code, (arguments, done.output)
    return done.output


WAYS: dict[str, list[list[str]]] = {
    "pretrain": [[*SETS], ["-s", "nonsense=1"]],
    "make-fmnist": [[*SETS], ["-s", "nonsense=1"]],
    "finetune-lora": [[*SETS], ["-s", "nonsense=1"]],
    "finetune": [["lora", *SETS], ["lora", "-s", "nonsense=1"]],
    "study": [[*SETS], ["-s", "nonsense=1"]],
    "tune": [[*SETS, "-s", "finetune.method=head"], ["-s", "nonsense=1"]],
    "sweep": [["--grid", "k=4", *SETS], ["-s", "nonsense=1"]],
    "bench": [["bitfit", "--rounds", "1", "--steps", "2"], ["nonsense"]],
    "evaluate": [["lora-k4-s0"], ["nonsense"]],
    "report": [["--out", "PLACE/report.html"], ["nonsense"]],
    "explain": [["lora-k4-s0"], ["nonsense"]],
    "ls": [[], ["--where", "("]],
    "rm": [["pretrain-s0", "--dry-run"], ["nonsense"]],
    "scale": [["toy", "--measure", "--limit", "1", "--k", "2000"], ["nonsense"]],
    "export": [["lora-k4-s0", "--to", "merged", "--out", "PLACE/merged"], ["nonsense", "--to", "merged"]],
    "import-peft": [["PLACE/peft", "--base", "pretrain-s0"], ["PLACE/none", "--base", "pretrain-s0"]],
    "import-base": [["PLACE/base.safetensors"], ["PLACE/none"]],
}
"""How each command succeeds, and how it fails, which `--debug` waits for."""


@pytest.mark.parametrize("name", SHARED)
def test_a_command_reads_every_option_that_it_has(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, following = set[str](), list[str]()

    def spy(self: options.Output, name: str) -> Any:
        read.add(f"--{name.replace('_', '-')}")
        return object.__getattribute__(self, name)

    monkeypatch.setattr(options.Output, "__getattribute__", spy)
    curves = tune.curves
    monkeypatch.setattr(tune, "curves", lambda config: [replace(curve, lrs=(0.01,)) for curve in curves(config)])  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType, reportUnknownVariableType]
    monkeypatch.setattr(tune, "WIDENINGS", 0)
    for way in WAYS[name]:
        filled = [word.replace("PLACE", str(runs)) for word in way]
        done = CliRunner().invoke(app, [name, *filled, "--runs-dir", str(runs / FOLDER)])
        assert (done.exit_code == 0) == (way is WAYS[name][0]), done.output
        for line in re.findall(r"^next  lorabench (.*)$", done.stdout, re.MULTILINE):
            parse(shlex.split(line))
            assert shlex.quote(str(runs / FOLDER)) in line
            following.append(line)
    assert len(following) == (name not in {"report", "rm"})  # here one writes a file, and one does nothing
    assert (read | ({"--set"} if "--sets" in read else set())) & set(ALL) == SHARED[name]


def test_rm_says_what_was_made_from_a_run(runs: Path, tmp_path: Path) -> None:
    (lora,) = Store(runs / FOLDER).select(["lora-k4-s0"])[0]
    for made in (lora.parents.data, lora.parents.base, lora.id):  # other tests leave runs of theirs there
        shutil.copytree(runs / FOLDER / str(made), tmp_path / FOLDER / str(made))
    (base,) = (tmp_path / FOLDER).glob("pretrain-s0-*")
    (tuned,) = (tmp_path / FOLDER).glob("lora-k4-s0-*")
    Store(tmp_path / FOLDER).remember_study("mine", [tuned.name])
    said = command(tmp_path, "rm", base.name, "--dry-run")
    assert f"would remove  {base.name}\n" in said
    assert f"not evaluated or exported without them: {tuned.name}\n" in said
    assert base.is_dir()
    said = command(tmp_path, "rm", "pretrain-s0", "lora-k4-s0")
    assert "made from" not in said
    assert "they are part of: mine" in said
    assert f"next  lorabench ls --runs-dir {shlex.quote(str(tmp_path / FOLDER))}\n" in said
    left = [path.name.partition("-")[0] for path in (tmp_path / FOLDER).glob("*-s0-*")]
    assert left == ["fmnist"]
    base.symlink_to(runs / FOLDER / base.name)
    with pytest.raises(InputError, match="removes no run through one"):
        Store(tmp_path / FOLDER).remove(base.name)


def test_a_dry_run_of_a_study_says_how_long_it_may_take(runs: Path) -> None:
    shown = command(runs, "study", *SETS, "--seeds", "0-1", "--set", "study.workers=2", "--dry-run")
    assert re.search(r"about [0-9.]+ s with 2 workers, by the median of past runs", shown)


def test_what_comes_next_can_be_pasted_whatever_the_folder_is_called() -> None:
    shared = options.Runs(runs_dir=Path("my [b]runs"))
    assert shared.following("report", "a b") == "lorabench report 'a b' --runs-dir 'my [b]runs'"


def test_a_dry_run_looks_at_what_it_would_read(runs: Path) -> None:
    missing = ("import-peft", str(runs / "none"), "--base", "pretrain-s0", "--dry-run")
    assert "cannot be read" in command(runs, *missing, code=4)
    before = sorted(path.name for path in (runs / FOLDER).iterdir())
    assert "would import  peft-lora-k4-s0-" in command(
        runs, "import-peft", str(runs / "peft"), "--base", "pretrain-s0", "--dry-run", "--force"
    )
    assert sorted(path.name for path in (runs / FOLDER).iterdir()) == before
    peft = ("export", "lora-k4-s0", "--to", "peft", "--dry-run", "--out", str(runs / "peft"))
    assert "would write lora-k4-s0-" in command(runs, *peft)
    assert "does not go to PEFT" in command(runs, "export", "pretrain-s0", "--to", "peft", "--dry-run", code=2)


def documented() -> list[str]:
    """Every command line of the documents."""
    found = [
        line
        for name in ("README.md", "runs/README.md")
        for line in re.findall(r"^    (?:\$ )?lorabench (.+)$", (ROOT / name).read_text(), re.MULTILINE)
    ]
    assert len(found) > 30
    return found


@pytest.mark.parametrize("line", documented())
def test_what_the_documents_show_can_be_typed(line: str) -> None:
    parse(shlex.split(line.partition("&&")[0], comments=True))


@pytest.mark.parametrize(
    "arguments",
    [
        ["bench", "bitfit", "--ranks", "2"],
        ["ls", "--cols", "help", "--where", "k > 4"],
        ["study", "--config", str(ROOT / "configs" / "methods.yaml"), "--k", "8", "--dry-run"],
        ["sweep", "--grid", "k=1,2", "--workers", "2", "--engine", "dask://127.0.0.1:1", "--dry-run"],
        ["tune", "--workers", "2", "--engine", "dask://127.0.0.1:1", "--dry-run"],
        ["study", "--data-dir", "x", "--engine", "dask://127.0.0.1:1", "--dry-run"],
        ["report", "--data-dir", "x"],
    ],
)
def test_an_option_that_another_one_makes_idle_is_refused(arguments: list[str], tmp_path: Path) -> None:
    command(tmp_path, *arguments, code=2)


def test_a_data_folder_of_the_environment_may_be_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORABENCH_DATA", str(tmp_path))
    command(tmp_path, "study", "--engine", "dask://127.0.0.1:1", "--dry-run")


@pytest.mark.parametrize(
    ("arguments", "origin"),
    [(["study", "--seed", "4"], "--seed"), (["tune"], "the command"), (["tune", "--seeds", "1"], "--seeds")],
)
def test_a_dry_run_names_no_option_that_nobody_typed(arguments: list[str], origin: str, tmp_path: Path) -> None:
    planned = command(tmp_path, *arguments, "-s", "finetune.method=head", "--dry-run", "--json")
    assert json.loads(planned)["origins"]["study.seeds"] == origin


def test_habits(tmp_path: Path) -> None:
    assert "Usage" in command(tmp_path, "study", "-h")
    shown = command(tmp_path, "finetune", "dora", "-k", "2", "--lr", "1e-3", "--epochs", "1", "--dry-run", "--json")
    settings = json.loads(shown)["settings"]["finetune"]
    assert (settings["k"], settings["lr"], settings["epochs"]) == (2, 1e-3, 1)
    shown = command(tmp_path, "pretrain", "--lr", "1e-3", "--epochs", "1", "--dry-run", "--json")
    assert (
        json.loads(shown)["settings"]["pretrain"] | {"lr": 1e-3, "epochs": 1}
        == json.loads(shown)["settings"]["pretrain"]
    )
    shown = command(tmp_path, "study", "--seeds", "5", "-j", "1", "--dry-run")
    assert "--seeds 5 is seed 5 alone; for 5 seeds write 0-4" in shown
    shown = command(tmp_path, "study", "--seeds", "0-4", "--dry-run")
    assert "alone" not in shown
    assert "no past run is like 10 of those" in shown


@pytest.mark.parametrize(
    ("arguments", "here"),
    [
        (["finetune", "lora", "--rank", "2"], "--rank; here it is --k"),
        (["finetune-lora", "--learning-rate", "2"], "--learning-rate; here it is --lr"),
        (["pretrain", "--batch-size", "2"], "--batch-size; here it is -s pretrain.batch_size=VALUE"),
        (["ls", "--rank", "2"], "--rank"),
    ],
)
def test_another_programs_option_names_ours(
    arguments: list[str], here: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["lorabench", *arguments])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == f"lorabench: No such option: {here}\n"


def test_a_report_is_utf_8_whatever_the_console(runs: Path) -> None:
    arguments = ["report", "--format", "html", "--runs-dir", str(runs / FOLDER)]
    plain, narrow = (CliRunner(charset=charset).invoke(app, arguments) for charset in ("utf-8", "ascii"))
    assert narrow.exit_code == 0, narrow.exception
    assert narrow.stdout_bytes == plain.stdout_bytes
    assert not narrow.stdout_bytes.decode().isascii()


@pytest.mark.parametrize("ignored", [False, True])
def test_a_closed_terminal_stops_a_command_unless_it_is_to_go_on(
    ignored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`nohup` has a command ignore SIGHUP."""
    app, went_on = typer.Typer(), list[bool]()
    monkeypatch.setattr(options, "app", app)

    @options.command()
    def wait(shared: options.Output) -> None:  # pyright: ignore[reportUnusedFunction]
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.05)
        went_on.append(True)

    def unheard(*_: object) -> None: ...

    usual = signal.SIG_IGN if ignored else unheard
    before = signal.signal(signal.SIGHUP, usual)
    try:
        code = CliRunner().invoke(app, []).exit_code
        after = signal.getsignal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (code, went_on, after) == ((0, [True], usual) if ignored else (143, [], usual))


def test_a_system_without_hangups_and_masks_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows is: a command is stopped all the same, and workers can be started."""
    app = typer.Typer()
    monkeypatch.setattr(options, "app", app)
    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("SIGHUP", "pthread_sigmask"):
        monkeypatch.delattr(signal, name)

    @options.command()
    def stop(shared: options.Output) -> None:  # pyright: ignore[reportUnusedFunction]
        with processes.undisturbed():
            signal.raise_signal(signal.SIGTERM)

    assert CliRunner().invoke(app, []).exit_code == 143


def test_a_failure_that_nobody_can_be_told_is_no_other_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, s: str, /) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    options.report_failure("why", ValueError("why"), 4, as_json=False)
