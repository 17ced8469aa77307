from __future__ import annotations

import dataclasses
import itertools
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st

from effcore import __main__ as command_line
from effcore import config as config_module
from effcore.config import (
    NUMBER_RANGES,
    ConfigError,
    available_devices,
    check_device,
    default_knobs,
    default_threads,
    dense_reference,
    incompatibility,
    resolve,
)
from effcore.knobs import KnobSpec, knobs_of, with_knobs
from effcore.policies.combination import (
    POLICY_REGISTRIES,
    PolicyCombination,
    knobs_of_policies,
    policies_of,
)
from effcore.records import KnobChange, RunConfig
from effcore.runs.descriptions import describe_config
from effcore.runs.reproduce import config_to_command, config_to_settings, parse_knob_change
from effcore.store.serialization import decode_record, encode_record
from effcore.tasks.base import SIZES, TASKS, Defaults
from effcore.testing.tiny_task import tiny_task


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        TASKS.ids()  # imports what there is before an example is drawn from it
        yield


# Any configuration -----------------------------------------------------------------------


def numbers(name: str) -> st.SearchStrategy[float]:
    allowed = NUMBER_RANGES[name]
    if allowed.integer:
        return st.integers(int(allowed.lo), int(allowed.hi))
    return st.floats(allowed.lo, allowed.hi)


@st.composite
def raw_configs(draw: st.DrawFn) -> dict[str, Any]:
    """Settings as a person may give them, each alone or left out."""
    task = TASKS.get(draw(st.sampled_from(TASKS.ids())))
    choice = draw(st.sampled_from(task.models))
    policies = PolicyCombination(
        *(draw(st.sampled_from(kind.ids())) for kind in POLICY_REGISTRIES.values())
    )
    size = draw(st.sampled_from(SIZES))
    assume(incompatibility(policies, task.id, choice, size) is None)
    raw: dict[str, Any] = {"task": task.id, "model": choice.id, **policies._asdict()}
    raw["optimizer"] = draw(st.sampled_from(config_module.OPTIMIZERS))
    raw["precision"] = draw(st.sampled_from(config_module.PRECISIONS))
    raw["size"] = size
    data = draw(values(knobs_of(task.settings)))
    n = task.count_examples(with_knobs(task.settings(), data))
    raw |= data
    for name in NUMBER_RANGES:
        if draw(st.booleans()):
            raw[name] = draw(numbers(name))
    if "batch_size" in raw:
        raw["batch_size"] = min(raw["batch_size"], n)
    if "budget" in raw:  # as much as pays for a batch
        usual = task.model_choice(raw["model"]).defaults
        epochs, batch = raw.get("epochs", usual.epochs), raw.get("batch_size", usual.batch_size)
        raw["budget"] = min(1.0, max(raw["budget"], 1.001 / (epochs * n // batch)))
    return raw | draw(values(knobs_of_policies(policies)))


@st.composite
def values(draw: st.DrawFn, specs: tuple[KnobSpec, ...]) -> dict[str, float]:
    """Some of these knobs, at most one of each group."""
    groups: set[str] = set()
    chosen: dict[str, float] = {}
    for spec in specs:
        if draw(st.booleans()) and spec.group not in groups:
            whole = st.integers(int(spec.lo), int(spec.hi))
            chosen[spec.name] = draw(whole if spec.integer else st.floats(spec.lo, spec.hi))
            groups |= {spec.group} if spec.group else set()
    return chosen


@st.composite
def changes_of(draw: st.DrawFn, config: RunConfig) -> list[KnobChange]:
    specs = knobs_of_policies(policies_of(config))
    if not specs:
        return []
    found = []
    for _ in range(draw(st.integers(0, 4))):
        spec = draw(st.sampled_from(specs))
        whole = st.integers(int(spec.lo), int(spec.hi))
        value = draw(whole if spec.integer else st.floats(spec.lo, spec.hi))
        found.append(KnobChange(draw(st.integers(0, 10**6)), spec.name, value))
    return sorted(found, key=lambda change: change.step)


@given(raw_configs())
def test_settings_come_back_as_the_same_configuration(raw: dict[str, Any]) -> None:
    config = resolve(raw)
    settings = config_to_settings(config)
    assert all(isinstance(value, str) for value in settings.values())
    assert resolve(settings) == config


@given(raw_configs())
def test_what_was_asked_for_is_what_is_configured(raw: dict[str, Any]) -> None:
    config = resolve(raw)
    for name, value in raw.items():
        flat = {**dataclasses.asdict(config), **config.data, **config.knobs}
        assert flat[name] == value


@given(raw_configs(), st.data())
def test_the_printed_command_is_the_same_configuration(raw: dict[str, Any], data: Any) -> None:
    config = resolve(raw)
    config = dataclasses.replace(config, changes=tuple(data.draw(changes_of(config))))
    python, m, effcore, run, *words = shlex.split(config_to_command(config))
    assert [python, m, effcore, run] == ["python", "-m", "effcore", "run"]
    assert parsed(words) == config


def parsed(words: list[str]) -> RunConfig:
    """The configuration that the command line makes of these words."""
    command = command_line.run_command()
    given_ = command.make_context("run", words).params
    changes, policy = given_.pop("changes"), given_.pop("policy")
    assert given_.pop("as_json") is False
    return command_line._resolve_or_usage_error({**given_, "selection": policy}, changes)


@given(raw_configs(), st.data())
def test_a_stored_configuration_comes_back(raw: dict[str, Any], data: Any) -> None:
    config = resolve(raw)
    config = dataclasses.replace(config, changes=tuple(data.draw(changes_of(config))))
    assert decode_record(RunConfig, encode_record(config)) == config


# Defaults --------------------------------------------------------------------------------


def test_nothing_asked_for_is_the_default_run() -> None:
    config = resolve({})
    task = TASKS.get("photo")
    assert (config.task, config.selection, config.update) == (
        "photo",
        "confident-skip",
        "every-step",
    )
    assert config.model == task.models[0].id
    defaults = task.models[0].defaults
    assert (config.epochs, config.batch_size) == (defaults.epochs, defaults.batch_size)
    assert config.learning_rate == defaults.learning_rate
    assert config.device == available_devices()[0]
    assert config.threads == default_threads()
    assert config.budget is None
    assert resolve({name: None for name in ("task", "epochs", "mass", "device")}) == config


def test_numbers_may_be_text() -> None:
    config = resolve({"task": "tiny", "epochs": "7", "learning_rate": "1e-3", "mass": "0.25"})
    assert (config.epochs, config.learning_rate, config.knobs["mass"]) == (7, 1e-3, 0.25)
    assert isinstance(config.epochs, int)


def test_naming_one_cut_unsets_the_other() -> None:
    config = resolve({"loss_threshold": 0.05})
    assert config.knobs["mass"] is None
    assert config.knobs["loss_threshold"] == 0.05


def test_the_command_of_a_run_cut_short_keeps_the_changes_that_lay_ahead() -> None:
    ahead = KnobChange(9000, "mass", 0.2)
    config = resolve({"changes": [KnobChange(3, "mass", 0.6), ahead, KnobChange(3, "revisit", 2)]})
    steered = (KnobChange(3, "mass", 0.1), KnobChange(3, "revisit", 2))
    texts = [f"{c.step}:{c.name}={c.value!r}" for c in (*steered, ahead)]
    for steps in (3, 4, 8999, 9000):  # at 3 the change made by hand stands for the replayed one
        words = shlex.split(config_to_command(config, steered, steps))
        assert [w for v, w in itertools.pairwise(words) if v == "--set"] == texts
    assert "9000:" not in config_to_command(config, steered, 9001)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            {"selection": "dense", "mass": 0.5},
            "'mass' is a knob of confident-skip: choose that policy",
        ),
        ({"selection": "random", "mass": 0.5}, "the knobs of this run: skip_fraction"),
        ({"selection": "dense", "changes": [KnobChange(0, "mass", 0.5)]}, "'dense' has none."),
        ({"seed": -1}, "from 0 to 2147483647"),
        ({"epochs": "9" * 5000}, "…"),
        ({"epochs": 1, "batch_size": 8192, "budget": 0.05}, "full training takes 12 batches"),
    ],
)
def test_a_message_says_what_helps(raw: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        resolve({"task": "photo", **raw})
    assert words in str(refused.value)
    assert len(str(refused.value)) < 400


def test_threads_leave_a_core_for_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, threads in ((1, 1), (2, 1), (16, 15)):
        monkeypatch.setattr(config_module, "_usable_cores", lambda cores=cores: cores)
        assert default_threads() == threads


# Bad input -------------------------------------------------------------------------------

BAD = [
    ({"task": "digit"}, "task", r"unknown task 'digit': did you mean 'digits'\? Allowed: photo"),
    ({"selection": "confidentskip"}, "selection", r"did you mean 'confident-skip'\?"),
    ({"selection": "zzz"}, "selection", r"unknown selection policy 'zzz': Allowed: confident-skip"),
    ({"update": "everystep"}, "update", r"did you mean 'every-step'\?"),
    ({"task": "digits", "model": "cn"}, "model", r"unknown model 'cn': did you mean 'cnn'\?"),
    ({"optimizer": "adam"}, "optimizer", r"unknown optimizer 'adam': did you mean 'adamw'\?"),
    ({"precision": "fp16"}, "precision", r"unknown precision 'fp16': did you mean .* fp32, bf16"),
    ({"epochs": 0}, "epochs", r"epochs=0 is not allowed: expected a whole number from 1 to 1000"),
    ({"epochs": "2.5"}, "epochs", r"epochs='2.5' is not allowed: expected a whole number"),
    ({"epochs": "many"}, "epochs", r"epochs='many' is not allowed"),
    ({"batch_size": 0}, "batch_size", r"batch_size=0 is not allowed"),
    (
        {"task": "tiny", "batch_size": 201},
        "batch_size",
        r"'tiny' has 200 training examples; choose",
    ),
    ({"learning_rate": "nan"}, "learning_rate", r"learning_rate='nan' is not allowed"),
    ({"learning_rate": "inf"}, "learning_rate", r"from 1e-06 to 10; choose a value in that range"),
    ({"learning_rate": -1}, "learning_rate", r"learning_rate=-1 is not allowed"),
    ({"seed": -1}, "seed", r"seed=-1 is not allowed"),
    ({"budget": 1.5}, "budget", r"budget=1.5 is not allowed: expected a number from 0.01 to 1;"),
    ({"budget": 0}, "budget", r"budget=0 is not allowed"),
    ({"threads": 0}, "threads", r"threads=0 is not allowed"),
    ({"clip_norm": -1}, "clip_norm", r"clip_norm=-1 is not allowed"),
    ({"mass": 1}, "mass", r"mass=1 is not allowed: expected a number from 0 to 0.95; choose"),
    ({"mass": "nan"}, "mass", r"mass='nan' is not allowed"),
    ({"revisit": 2.5}, "revisit", r"revisit=2.5 is not allowed: expected a whole number from 1 to"),
    ({"mass": 0.5, "loss_threshold": 1}, "loss_threshold", r"mass and loss_threshold exclude"),
    ({"selection": "dense", "mass": 0.5}, "mass", r"'mass' is a knob of confident-skip"),
    ({"epoch": 3}, "epoch", r"unknown setting 'epoch' for .*: did you mean 'epochs'\?"),
    ({"device": "tpu"}, "device", r"device='tpu' is not available: .*; use one of .*cpu"),
    ({"changes": [KnobChange(1, "mas", 1)]}, "changes", r"unknown knob 'mas': did you mean 'mass'"),
    (
        {"changes": [KnobChange(-1, "mass", 0.5)]},
        "changes",
        r"step=-1 is not allowed: steps count from 0",
    ),
    ({"changes": [KnobChange(1, "mass", 2)]}, "changes", r"mass=2 is not allowed: expected"),
]


@pytest.mark.parametrize(("raw", "field", "message"), BAD, ids=[str(raw) for raw, _, _ in BAD])
def test_bad_input_is_named_with_what_is_allowed(
    raw: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        resolve({"device": "cpu", **raw})
    assert caught.value.field == field


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"'cuda' is not available: PyTorch sees no .*use .*cpu"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert available_devices() == ["cuda:0", "cuda:1", "cpu"]
    assert check_device("cuda") == "cuda:0"
    with pytest.raises(ConfigError, match=r"'cuda:7' is not available: there is no such GPU; use"):
        check_device("cuda:7")


# Knob changes as text --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("120:mass=0.5", KnobChange(120, "mass", 0.5)),
        ("0:revisit=8", KnobChange(0, "revisit", 8)),
        ("7:loss-threshold=1e-06", KnobChange(7, "loss_threshold", 1e-6)),
        ("7:mass=1.0", KnobChange(7, "mass", 1.0)),
    ],
)
def test_a_change_is_parsed(text: str, change: KnobChange) -> None:
    parsed_change = parse_knob_change(text)
    assert parsed_change == change
    assert type(parsed_change.value) is type(change.value)


@pytest.mark.parametrize(
    "text", ["", "mass=0.5", "5:mass", "x:mass=0.5", "5:mass=", "5:mass=much", "1.5:mass=0.5"]
)
def test_a_change_not_understood_shows_the_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not understood: expected STEP:name=value, e\.g\."):
        parse_knob_change(text)


def test_changes_are_sorted_by_step_and_keep_their_order_within_one() -> None:
    texts = ["9:mass=0.1", "3:mass=0.2", "9:loss_threshold=1", "3:revisit=2"]
    config = resolve({"changes": [parse_knob_change(text) for text in texts]})
    assert [(c.step, c.name) for c in config.changes] == [
        (3, "mass"),
        (3, "revisit"),
        (9, "mass"),
        (9, "loss_threshold"),
    ]


# What is derived -------------------------------------------------------------------------


def test_the_dense_twin_shares_everything_but_selection_and_budget() -> None:
    config = resolve({"task": "tiny", "mass": 0.5, "budget": 0.5, "seed": 4, "clip_norm": 1})
    twin = dense_reference(config)
    assert (twin.selection, twin.budget, dict(twin.knobs), twin.changes) == ("dense", None, {}, ())
    for name in ("task", "model", "epochs", "batch_size", "learning_rate", "seed", "clip_norm"):
        assert getattr(twin, name) == getattr(config, name)
    assert dense_reference(twin) == twin
    assert resolve(config_to_settings(twin)) == twin


def test_a_description_has_the_words_a_page_needs() -> None:
    words = describe_config(resolve({"task": "tiny", "selection": "random"}))
    assert words.title == "Tiny · Random"
    assert dataclasses.asdict(words.metric) == {
        "name": "accuracy",
        "label": "Accuracy",
        "unit": "%",
        "higher_is_better": True,
        "digits": 1,
    }
    assert words.captions == {"map": "Where the points lie that this pass draws"}
    assert words.owners == {"skip_fraction": "Random"}
    assert words.preparing == ""
    assert describe_config(resolve({"task": "tiny", "selection": "rho-loss"})).preparing


def test_a_description_says_whose_each_knob_is() -> None:
    raw = {"task": "tiny", "selection": "random", "update": "prefix-freeze"}
    owners = describe_config(resolve(raw)).owners
    freeze = dict.fromkeys(("frozen_share", "freeze_after"), "Prefix freeze")
    assert owners == {"skip_fraction": "Random", **freeze}


def test_help_names_every_range() -> None:
    text = CliRunner().invoke(command_line.main, ["run", "--help"]).output
    for name in NUMBER_RANGES:
        assert "--" + name.replace("_", "-") in text


def test_a_tasks_own_knobs_stand_in_for_the_policys_and_give_way_to_what_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = Defaults(epochs=1, batch_size=16, learning_rate=1e-2, knobs={"mass": 0.2, "revisit": 3})
    task = TASKS.get("photo")
    choice = dataclasses.replace(task.models[0], defaults=usual)
    monkeypatch.setattr(task, "models", (choice,))
    raw = {"task": "photo", "selection": "confident-skip"}
    assert resolve(raw).knobs == {"mass": 0.2, "loss_threshold": None, "revisit": 3}
    assert resolve({**raw, "revisit": 9}).knobs["revisit"] == 9
    by_loss = resolve({**raw, "loss_threshold": 0.1}).knobs
    assert (by_loss["mass"], by_loss["loss_threshold"]) == (None, 0.1)
    assert resolve({**raw, "selection": "dense"}).knobs == {}
    assert default_knobs("photo", choice.id, PolicyCombination())["mass"] == 0.2
