"""Runs in TensorBoard: its own reader gives back the history, the settings and the metrics."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from report_factory import finetune, fmnist

from lorabench import exchange
from lorabench.config import Config
from lorabench.errors import InputError
from lorabench.exchange import events as event_files
from lorabench.runner.session import Session, open_session
from lorabench.runs import Run, Store

EPOCHS = [
    {"epoch": 1, "loss": 0.5, "accuracy": 0.875, "lr": 0.03, "seconds": 0.25},
    {"epoch": 2, "loss": 0.25, "accuracy": 0.9375, "lr": 0.0, "seconds": 0.5},
]


def stored(store: Store, draft: Run, history: list[dict[str, Any]]) -> Run:
    with store.start(draft, "") as folder:
        if history:
            folder.write("history.jsonl", "".join(json.dumps(epoch) + "\n" for epoch in history).encode())
        folder.finish(draft)
        return folder.run


@pytest.fixture
def session(tmp_path: Path) -> Generator[Session]:
    with open_session(Store(tmp_path / "runs"), None, Config(), lambda event: None) as opened:
        yield opened


def written(runs: list[Run], session: Session, folder: Path) -> list[Path]:
    """The one event file of each of `runs`."""
    event_files.write(runs, folder, session)
    files = [sorted((folder / run.id).iterdir()) for run in runs]
    assert [len(of_one) for of_one in files] == [1] * len(runs)
    return [path for (path,) in files]


def read(path: Path) -> Any:
    module: Any = import_module("tensorboard.backend.event_processing.event_accumulator")
    return module.EventAccumulator(str(path)).Reload()


def plugin(events: Any, name: str) -> Any:
    module: Any = import_module("tensorboard.plugins.hparams.plugin_data_pb2")
    data = events.SummaryMetadata(name).plugin_data
    assert data.plugin_name == "hparams"
    return module.HParamsPluginData.FromString(data.content)


def tab(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the settings and of the metrics that TensorBoard's HParams tab offers for this folder."""
    events: Any = import_module("tensorboard.backend.event_processing.plugin_event_multiplexer").EventMultiplexer()
    events.AddRunsFromDirectory(str(folder)).Reload()
    provider = import_module("tensorboard.backend.event_processing.data_provider").MultiplexerDataProvider(
        events, str(folder)
    )
    context = import_module("tensorboard.plugins.base_plugin").TBContext(data_provider=provider)
    backend = import_module("tensorboard.plugins.hparams.backend_context").Context(context)
    request = import_module("tensorboard.context").RequestContext()
    found = backend.experiment_from_metadata(
        request,
        "",
        include_metrics=True,
        hparams_run_to_tag_to_content=backend.hparams_metadata(request, ""),
        data_provider_hparams=[],
    )
    return [info.name for info in found.hparam_infos], [info.name.tag for info in found.metric_infos]


def test_the_curves_are_the_history(session: Session, tmp_path: Path) -> None:
    runs = [stored(session.store, finetune(seed), EPOCHS[: seed + 1]) for seed in (0, 1)]
    for path, epochs in zip(written(runs, session, tmp_path / "events"), (EPOCHS[:1], EPOCHS), strict=True):
        events = read(path)
        for name in ("loss", "accuracy", "lr", "seconds"):
            found = {event.step: event.value for event in events.Scalars(f"train/{name}")}
            assert found == pytest.approx({epoch["epoch"]: epoch[name] for epoch in epochs})  # pyright: ignore[reportUnknownMemberType]


def test_settings_and_final_metrics_are_hyperparameters(session: Session, tmp_path: Path) -> None:
    run = stored(session.store, finetune(3), EPOCHS)
    (path,) = written([run], session, tmp_path / "events")
    events = read(path)
    start = plugin(events, "_hparams_/session_start_info").session_start_info
    assert start.hparams["init"].string_value == "talk"
    assert start.hparams["lr"].number_value == 0.003
    assert start.hparams["targets"].string_value == "null"
    assert set(start.hparams) == {"stage", *run.settings}
    expected = {
        "mnist/accuracy": run.metrics["mnist"].accuracy,
        "mnist/loss": run.metrics["mnist"].loss,
        "fmnist/accuracy": run.metrics["fmnist"].accuracy,
        "fmnist/loss": run.metrics["fmnist"].loss,
        "fmnist/flipped": 586 / 613,
        "fmnist/upright": 1400 / 1429,
        "fmnist/rest": 7788 / 7958,
        "trainable": 6_248,
    }
    found = {name: events.Scalars(name)[0].value for name in expected}
    assert found == pytest.approx(expected, rel=1e-6)  # pyright: ignore[reportUnknownMemberType]


def test_the_hparams_tab_shows_what_only_some_runs_have(session: Session, tmp_path: Path) -> None:
    runs = [stored(session.store, fmnist(), []), stored(session.store, finetune(3), EPOCHS)]
    event_files.write(runs, tmp_path / "events", session)
    found, metrics = tab(tmp_path / "events")
    assert set(found) == {key for run in runs for key in ("stage", *run.settings)}
    assert {"train/loss", "fmnist/accuracy", "fmnist/flipped", "trainable"} <= set(metrics)


def test_a_run_without_curves_and_metrics_is_written_too(session: Session, tmp_path: Path) -> None:
    (path,) = written([stored(session.store, fmnist(), [])], session, tmp_path / "events")
    start = plugin(read(path), "_hparams_/session_start_info").session_start_info
    assert start.hparams["classes"].string_value == "[2, 3]"


def test_what_is_missing_is_said(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored(session.store, finetune(0), EPOCHS)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        exchange.export([run], "tensorboard", tmp_path / "file" / "events", session)
    (session.store.path(run.id) / "history.jsonl").write_text("{")
    with pytest.raises(InputError, match="its SHA-256 differs"):
        exchange.export([run], "tensorboard", tmp_path / "events", session)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(InputError, match=r"lorabench\[tensorboard\]"):
        exchange.export([run], "tensorboard", tmp_path / "events", session)
    assert not (tmp_path / "events").exists()


def test_several_runs_go_into_one_folder_and_are_replaced_there(session: Session, tmp_path: Path) -> None:
    runs = [stored(session.store, finetune(seed), EPOCHS) for seed in (0, 1)]
    out = exchange.place(runs, "tensorboard", tmp_path)
    done = exchange.export(runs, "tensorboard", out, session)
    assert {file.name.split("/")[0] for file in done.files} == {run.id for run in runs}
    assert len(exchange.export(runs, "tensorboard", out, session, force=True).files) == 2
