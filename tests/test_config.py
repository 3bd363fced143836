"""Settings: sources and their order, and every way to write them wrongly."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

from lorabench import config, data, methods
from lorabench.analysis import claims
from lorabench.config.source import MAX_DEPTH, find, packaged, parse_yaml, scalar
from lorabench.errors import ConfigError, InputError
from lorabench.methods.entry import came_later
from lorabench.runner import stages

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))


def load(*files: Path, sets: list[str] | None = None, **flags: object) -> config.Loaded:
    return config.load(files, sets or [], flags)


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.replace(str(path), "bad.yaml") for problem in caught.value.problems]


def test_all_shipped_configs_were_found() -> None:
    assert {"study.yaml", "pretrain.yaml", "fmnist.yaml", "lora.yaml", "quick.yaml"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_loads_and_begins_with_its_command(path: Path) -> None:
    loaded = load(path)
    assert stages.study(loaded.config)
    claims.check_keys(loaded.config.expect)
    command = path.read_text().splitlines()[0]
    assert re.fullmatch(rf"# lorabench [a-z-]+( [a-z-]+)? -c configs/{path.name}", command)


def test_a_shipped_config_is_found_by_its_name_and_a_file_of_that_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is installed, from among what the wheel brought."""
    assert {name: path.read_text("utf-8") for name, path in packaged().items()} == {
        path.stem: path.read_text("utf-8") for path in CONFIGS
    }
    monkeypatch.chdir(tmp_path)
    assert find(Path("study")) == packaged()["study"]
    assert load(Path("quick")).config.study.name == "quick"
    Path("study").write_text("study: {name: mine}")
    assert load(Path("study")).config.study.name == "mine"
    with pytest.raises(InputError, match='no config of that name comes with lorabench; did you mean "methods"'):
        load(Path("method"))
    with pytest.raises(InputError, match="there are fmnist, lora, lr-sweep, methods"):
        load(Path("nonsense"))
    with pytest.raises(InputError, match="cannot be read"):
        load(Path("study.yml"))


def test_study_yaml_says_the_defaults() -> None:
    shipped = load(Path(__file__).parent.parent / "configs" / "study.yaml").config
    assert [s.id for s in stages.study(shipped)] == [s.id for s in stages.study(load().config)]


def test_later_sources_win_and_say_so(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("finetune: {k: 2, epochs: 3}\nseed: 1\n")
    second.write_text("finetune:\n  k: 3\n")
    loaded = load(first, second, sets=["finetune.epochs=5", "finetune.lr=1e-3"], seed=7)
    finetune = loaded.config.finetune
    assert (finetune.options["k"], finetune.epochs, finetune.lr, loaded.config.seed) == (3, 5, 1e-3, 7)
    assert loaded.origins["finetune.k"] == f"{second}:2:3"
    assert loaded.origins["finetune.epochs"] == "--set finetune.epochs=5"
    assert loaded.origins["seed"] == "--seed"


def test_all_problems_come_at_once_each_with_its_place(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "finetune:\n  epocs: 4\n  k: 0\nfmnist:\n  fraction: 1.5\n  classes: [2, 11]\n"
        "pretrain:\n  lr: 1\n  lr: 2\n  epochs: many\nstudy:\n  seeds: 4-0\n",
    )
    assert found == [
        "bad.yaml:9:3  pretrain.lr  set twice; it was first set at bad.yaml:8:3",
        'bad.yaml:10:3  pretrain.epochs  input should be a valid integer; got "many"',
        "bad.yaml:5:3  fmnist.fraction  input should be less than or equal to 1; got 1.5",
        "bad.yaml:6:3  fmnist.classes[1]  input should be less than or equal to 9; got 11",
        "bad.yaml:3:3  finetune.k  input should be greater than or equal to 1; got 0",
        'bad.yaml:2:3  finetune.epocs  unknown key; did you mean "epochs"?',
        'bad.yaml:12:3  study.seeds  the range "4-0" runs downwards; did you mean 0-4?; got "4-0"',
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fintune: {k: 4}", 'bad.yaml:1:1  fintune  unknown key; did you mean "finetune"?'),
        ("finetune: {method: lorra}", 'no method is called "lorra"; did you mean "lora"?'),
        ("finetune: {method: 3}", "finetune.method  no method is called 3; known: lora"),
        ("finetune: 3", "bad.yaml:1:1  finetune  "),
        ("seed: yes", 'seed  input should be a valid integer; got "yes"'),
        ("seed: true", "seed  input should be a valid integer; got true"),
        ("seed: -1", "seed  input should be greater than or equal to 0; got -1"),
        ("seed: 99999999999999999999999", "bad.yaml:1:7  seed  an integer of 23 digits"),
        ("pretrain: {lr: .inf}", "pretrain.lr"),
        ("pretrain: {lr: .nan}", "pretrain.lr"),
        ("pretrain: {batch_size: 0}", "pretrain.batch_size"),
        ("fmnist: {classes: []}", "fmnist.classes"),
        ("fmnist: {classes: [2, 2]}", "named twice"),
        ("fmnist: {axis: left}", "fmnist.axis"),
        ("expect: {params.total: true}", "expect.params.total.value  write a number such as 97.74% or 6248; got true"),
        ("expect: {mnist.base: 97.78 %}", "write a number such as 97.74%"),
        ("expect: {mnist.base: {value: 1%, tolerance: .inf}}", "expect.mnist.base.tolerance  write a number"),
        ("expect: {mnist.base: {value: 1%, tolerance: -1%}}", "must not be negative"),
        ("study: {seeds: 0-99999}", "more than 10,000"),
        ("study: {name: ../up}", "study.name"),
        ("a: &x 1\nb: *x", "bad.yaml:2:4  aliases (*x) are not allowed"),
        ("a: [1", "bad.yaml:1:"),
        ("- 1", "bad.yaml:1:1  a config is a mapping"),
        ("? [1]\n: 2", "a key must be a word"),
        ("a:" + "{a: " * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "levels deep"),
        ("\x00", "not YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, text)), problems(tmp_path, text)


def test_files_that_are_no_text_or_not_there(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"seed: \xff")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 6\)"):
        load(binary)
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than"):
        load(huge)
    with pytest.raises(InputError, match="No such file"):
        load(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["k", "=4", "finetune..k=4", "finetune.k=[", "finetune.k=*x"])
def test_a_malformed_set_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"--set {text}")):
        load(sets=[text])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("yes", "yes"),
        ("off", "off"),
        ("", None),
        ("null", None),
        ("true", True),
        ("0-4", "0-4"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("٣", "٣"),
        ("1:30", "1:30"),
    ],
)
def test_plain_words_mean_what_people_expect(text: str, value: object) -> None:
    found = scalar(text)
    assert (found, type(found)) == (value, type(value))


def test_quotes_keep_a_word_a_word() -> None:
    assert parse_yaml('a: "1"', "x").values == {"a": "1"}


def test_seed_lists() -> None:
    assert config.parse_seeds("0-2,7, 9") == (0, 1, 2, 7, 9)
    for wrong in ("", "a", "1-", "1,,2", "-1", "1.5"):
        with pytest.raises(ValueError, match="no list of seeds"):
            config.parse_seeds(wrong)


def test_dump_reads_back_to_the_same_config(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    original = load(sets=["finetune.k=7", "pretrain.lr=1e-7", "study.seeds=3,5", "finetune.targets=fc1,fc3"]).config
    path.write_text(config.dump(original, "two\nlines"))
    assert path.read_text().startswith("# two\n# lines\n")
    assert load(path).config == original


def test_held_out_images_and_another_mnist_change_every_id(monkeypatch: pytest.MonkeyPatch) -> None:
    def ids(*sets: str) -> set[str]:
        return {stage.id for stage in stages.chain(load(sets=list(sets)).config, "finetune")}

    here, held_out, fewer = ids(), ids("holdout=5000"), ids("holdout=4000")
    monkeypatch.setattr(data, "CHECKSUM", "ab" * 32)
    assert len({*here, *held_out, *fewer, *ids()}) == 12


def test_every_setting_that_a_stage_reads_changes_its_id() -> None:
    base = [s.id for s in stages.chain(load().config, "finetune")]
    changes = [
        "seed=1",
        "finetune.k=5",
        "finetune.lr=0.5",
        "finetune.init=kaiming",
        "finetune.alpha=2",
        "finetune.epochs=9",
    ]
    changes += ["finetune.batch_size=9", "finetune.warmup=0.5", "finetune.targets=fc1", "finetune.seed=1"]
    for change in changes:
        assert stages.finetune(load(sets=[change]).config).id != base[2], change
    for change in ("seed=1", "pretrain.seed=1", "pretrain.epochs=9", "pretrain.lr=0.5", "pretrain.warmup=0.1"):
        changed = stages.chain(load(sets=[change]).config, "finetune")
        assert changed[0].id == base[0]
        assert (changed[1].id != base[1], changed[2].id != base[2]) == (True, True), change
    for change in ("fmnist.seed=1", "fmnist.fraction=0.5", "fmnist.classes=[7]", "fmnist.axis=both"):
        changed = stages.chain(load(sets=[change]).config, "finetune")
        assert changed[1].id == base[1], "the base does not depend on F-MNIST"
        assert (changed[0].id != base[0], changed[2].id != base[2]) == (True, True), change
    for change in ("device=cpu", "threads=3", "study.name=x"):
        assert [s.id for s in stages.chain(load(sets=[change]).config, "finetune")] == base, change


@pytest.mark.parametrize("section", ["finetune", "study", "fmnist"])
def test_a_section_that_is_no_mapping_is_not_replaced_by_what_is_set_in_it(tmp_path: Path, section: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(f"{section}: 3\n")
    key = {"finetune": "k", "study": "name", "fmnist": "axis"}[section]
    with pytest.raises(ConfigError) as caught:
        load(path, sets=[f"{section}.{key}=4"])
    assert any(f"{section}  input should be a valid dictionary" in problem for problem in caught.value.problems)


def test_a_methods_settings_have_no_section_of_their_own(tmp_path: Path) -> None:
    found = problems(tmp_path, "finetune: {options: {k: 8}}\nstudy: {methods: [{method: lora, options: {k: 8}}]}\n")
    assert [problem.split("  ")[:2] for problem in found] == [
        ["bad.yaml:1:12", "finetune.options"],
        ["bad.yaml:2:34", "study.methods[0].options"],
    ]


@pytest.mark.parametrize("method", methods.METHODS)
def test_what_a_user_writes_is_what_is_recorded_and_what_the_method_gets(method: str) -> None:
    chosen: dict[str, Any] = {
        **methods.METHODS[method].defaults,
        "method": method,
        "targets": ["fc2"],
        "lr": 0.5,
        "epochs": 2,
    }
    given = load(sets=[f"finetune={json.dumps(chosen)}"])
    stage = stages.finetune(given.config)
    later = {option for option, setting in methods.METHODS[method].model.model_fields.items() if came_later(setting)}
    assert stage.settings.items() >= {key: value for key, value in chosen.items() if key not in later}.items()
    assert stage.config.finetune.options == methods.METHODS[method].defaults
    assert stage.settings.keys() == config.Finetune.of(method).model_fields.keys() - later


def test_a_config_goes_to_another_process_as_it_is() -> None:
    chosen = load(sets=["finetune.method=dora", "finetune.k=3", "study.methods=[{method: ia3, place: in}]"]).config
    again = pickle.loads(pickle.dumps(chosen))
    assert again == chosen
    assert again.finetune.options == {"k": 3}
    assert again.study.methods[0].options == {"place": "in"}


def test_a_learning_rate_that_no_record_takes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"finetune\.lr"):
        load(sets=["finetune.lr=1e16"])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("lr=1e-2", "did you mean finetune.lr or pretrain.lr?"),
        ("r=2", "did you mean finetune.k?"),
        ("finetune.rank=2", 'did you mean "k"?'),
        ("finetune.learning_rate=1e-2", 'did you mean "lr"?'),
        ("finetune.lora_alpha=8", 'did you mean "alpha"?'),
        ("pretrain.batch=8", 'did you mean "batch_size"?'),
        ("seeds=0-4", "did you mean study.seeds?"),
    ],
)
def test_another_programs_word_or_a_key_without_its_section_names_ours(text: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.load(sets=[text])
    assert refused.value.problems[0].endswith(f"unknown key; {meant}")


def test_every_word_of_others_stands_for_a_setting() -> None:
    known = {*config.Finetune.of("lora").model_fields, "seed"}
    assert set(config.WORDS.values()) <= known
    assert not config.WORDS.keys() & known


def test_lists_are_written_with_commas() -> None:
    loaded = config.load(sets=["fmnist.classes=4, 7", "finetune.targets=fc1,fc3"]).config
    assert (loaded.fmnist.classes, loaded.finetune.targets) == ((4, 7), ("fc1", "fc3"))
    assert config.load(sets=["fmnist.classes=4"]).config.fmnist.classes == (4,)
    with pytest.raises(ConfigError, match=r'valid integer; got "x"'):
        config.load(sets=["fmnist.classes=4,x"])


def test_a_section_may_be_empty_and_true_be_capital(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("finetune:\n  # k: 8\nsweep:\nreuse: False\nthreads: Null\n")
    assert config.load([path]).config == config.load(sets=["reuse=false"]).config
    path.write_text("finetune: {k: 8}\n")
    other = tmp_path / "other.yaml"
    other.write_text("finetune:\n")
    assert config.load([path, other]).config.finetune.options["k"] == 8


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("finetune:\n\tk: 3\n", ":2:1  a tab; YAML indents with spaces"),
        ("seed: !!python/int 3\n", ":1:7  tags (tag:yaml.org,2002:python/int) are not allowed; write the value alone"),
        ("finetune: !foo {k: 3}\n", ":1:11  tags (!foo) are not allowed; write the value alone"),
        ("study: {seeds: !bar [1]}\n", ":1:16  tags (!bar) are not allowed; write the value alone"),
    ],
)
def test_tabs_and_tags_are_explained(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        config.load([path])
    assert refused.value.problems == [f"{path}{problem}"]
