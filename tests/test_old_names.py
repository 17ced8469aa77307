"""Names of earlier versions go on working, and warn of what they are called now."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch

from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import EnergySource, Reading, SharedUse
from effcore.policies.selection.base import (
    SELECTIONS,
    BatchOutputs,
    Decision,
    ExampleState,
    PolicyMemory,
    SelectionPolicy,
    normalised_correction_weights,
)
from effcore.records import EnergyQuality, Event, ViewEvent
from effcore.records.old_names import OLD_ATTRIBUTES, OLD_KEYWORDS, OLD_MODULES, OLD_NAMES
from effcore.records.views import ExampleDisplay, ViewItem
from effcore.tasks.base import TASKS, ViewInputs
from effcore.testing.tiny_task import TinyTask, tiny_task
from tests.energy.scripted import Turns
from tests.tiny_runs import of, tiny_config, trained


def found(dotted: str) -> Any:
    """A module's attribute by its whole name."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(module), name)


@contextmanager
def warned(*names: str) -> Iterator[None]:
    """Expect warnings that name each of these."""
    with pytest.warns(DeprecationWarning, match="is deprecated: use ") as caught:
        yield
    text = "\n".join(str(warning.message) for warning in caught)
    assert all(warning.filename == __file__ for warning in caught), "they point at the caller"
    assert [name for name in names if name not in text] == []


# The tables ------------------------------------------------------------------------------


def test_a_module_is_found_by_its_old_path_and_offers_what_the_new_one_does() -> None:
    for old, new in OLD_MODULES.items():
        module = importlib.import_module(old)
        for name in public(importlib.import_module(new)):
            if f"{old}.{name}" not in OLD_MODULES:
                with warned(f"{old}.{name} is deprecated: use {new}.{name}"):
                    assert getattr(module, name) is found(f"{new}.{name}")


def public(module: Any) -> list[str]:
    """Classes that a module defines; three are enough."""
    own = vars(module).items()
    names = [n for n, v in own if isinstance(v, type) and v.__module__ == module.__name__]
    return [name for name in names if not name.startswith("_")][:3]


def test_a_name_is_found_in_its_old_module_and_told_there() -> None:
    for old, new in OLD_NAMES.items():
        module, _, name = old.rpartition(".")
        with warned(f"{old} is deprecated: use {new}"):
            assert found(old) is found(new)
        assert name in dir(importlib.import_module(module))


def test_an_attribute_stands_for_the_new_one() -> None:
    for dotted, attributes in OLD_ATTRIBUTES.items():
        cls = found(dotted)
        for old, new in attributes.items():
            assert old in vars(cls), f"{dotted}.{old}"
            if hasattr(cls, new):
                with warned(f"{cls.__name__}.{old} is deprecated: use {new}"):
                    assert getattr(cls, old) == getattr(cls, new)


def test_a_function_takes_its_arguments_by_the_old_keywords() -> None:
    for dotted, keywords in OLD_KEYWORDS.items():
        function = found(dotted)
        names = function.__wrapped__.__code__.co_varnames
        assert set(keywords.values()) <= set(names), dotted
    pi_N, open_N = torch.tensor([0.5, 1.0]), torch.tensor([True, False])
    old: Any = normalised_correction_weights
    with warned("normalised_correction_weights(open_N=…) is deprecated: use active_mask_N="):
        weights = old(pi_N, 1.0, open_N=open_N)
    assert torch.equal(weights, old(pi_N, 1.0, active_mask_N=open_N))


def test_the_public_face_needs_no_torch_and_an_unknown_module_is_still_unknown() -> None:
    program = (
        "import sys, effcore\n"
        "assert not {'torch', 'numpy'} & sys.modules.keys()\n"
        "try:\n    import effcore.nothing\n"
        "except ModuleNotFoundError as error:\n    assert error.name == 'effcore.nothing'\n"
        "import effcore.plan\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_what_neither_name_has_is_an_attribute_error() -> None:
    module = importlib.import_module("effcore.selection.base")
    for name in ("nothing", "__path__"):
        with pytest.raises(AttributeError, match=name):
            getattr(module, name)
    assert not hasattr(importlib.import_module("effcore.knobs"), "nothing")


# Records that hooks are given ------------------------------------------------------------


def test_an_old_keyword_and_an_old_attribute_are_the_new_field() -> None:
    old: Any = ExampleState
    with warned("ExampleState(pass_index=…) is deprecated: use epoch_index="):
        state = old(torch.zeros(2), pass_index=3, loss_kind="cross_entropy")
    assert state.epoch_index == 3
    with warned("ExampleState.pass_index"):
        state.pass_index = 4
    with warned("ExampleState.pass_index"):
        assert (state.epoch_index, state.pass_index) == (4, 4)
    display: Any = ExampleDisplay
    with warned("ExampleDisplay(given=…)", "ExampleDisplay.given"):
        assert display("text", given="goal").given == "goal"


def test_what_a_meter_was_asked_by_its_old_names_it_answers() -> None:
    meter: Any = RunMeter(None, lambda: 0.0, "no instrument")
    with warned("RunMeter.opened is deprecated: use has_source", "RunMeter.measures"):
        assert (meter.opened, meter.measures) == (False, False)


# Classes of authors ----------------------------------------------------------------------

OLD_FILE = """
from dataclasses import dataclass

import numpy as np
import torch

from effcore.energy.base import EnergySource, Reading, Tenancy
from effcore.events import Quality
from effcore.selection.base import (
    Decision, Memory, Pool, Seen, SelectionPolicy, scaled_weights, SELECTIONS
)
from effcore.tasks.base import Attention
from effcore.tiny import TinyTask
from effcore.views import Portrait


@SELECTIONS.add
@dataclass(frozen=True)
class OfEarlier(SelectionPolicy):
    id = "of-earlier"
    title = "Of earlier"
    summary = "Written for an earlier version."
    refreshes = True

    def inclusion(self, pool: Pool) -> Decision:
        loss_N, order_N = pool.by_loss()
        keep = pool.account.share_to_keep(0.4)
        pi_N = torch.full_like(loss_N, keep)
        pi_N[order_N[: pool.count_of(0.1)]] = 0.3 + 0.1 * (pool.pass_index % 2)
        pi_N = torch.where(pool.memory["seen_N"] > 2, pi_N, torch.ones_like(pi_N))
        return Decision(pi_N, weight_N=scaled_weights(pi_N, 0.5, open_N=pool.open_N))

    def moments(self) -> tuple[float, ...]:
        return (0.5, *super().moments())

    def decision_flops(self, n: int) -> float:
        return 2.0 * n

    def memory(self, n: int, device: torch.device) -> Memory:
        return super().memory(n, device) | {"seen_N": torch.zeros(n, device=device)}

    def observe(self, memory: Memory, seen: Seen) -> None:
        memory["seen_N"][seen.idx_B] += 1 + seen.pass_index

    def observing_flops(self, outputs: int) -> float:
        return 3.0 * outputs

    def turn(self, memory: Memory, pool: Pool) -> None:
        memory["seen_N"] += pool.pass_index == 1

    def rate_factor(self, drawn: float) -> float:
        return 0.5 + 0.5 * drawn

    def looks_besides(self) -> bool:
        return super().looks_besides()


class EarlierTask(TinyTask):
    id = "earlier"

    @classmethod
    def count(cls, data):
        return super().count(data)

    def __init__(self, seed, device, data=None):
        super().__init__(seed, device, data)
        self.shade = torch.zeros(1)

    def held_out(self, split):
        return super().held_out(split)

    def view(self, attention: Attention):
        picture = np.full((4, 4), int(self.shade) % 256, dtype=np.uint8)
        picture[0, : len(attention.skipped(4))] = 255
        return {"map": picture}

    def details(self, model, split):
        return super().details(model, split) | {"half": 0.5}

    def portrait(self, index):
        return Portrait("text", given=self.given(index), spot=(0, index))

    def remember(self, idx_B, outputs):
        self.shade += len(idx_B)

    def memories(self):
        return {"shade": self.shade.clone()}

    def recall(self, memories):
        self.shade = memories["shade"].clone()


class EarlierSource(EnergySource):
    id = "earlier"
    title = "Earlier"
    summary = "Written for an earlier version."
    quality = Quality.MEASURED
    hz = 10.0
    covers = "cuda"
    ticks = True
    tenancy_hz = 1.0
    time = None

    def __init__(self):
        self.source, self.scope = "script", "a bench"
        self.most_w = 150.0

    @classmethod
    def open(cls, device):
        return cls()

    def read(self):
        stepped_s = self.time.t // 0.1 * 0.1
        return Reading.point(self.time.t, 100.0, 100.0 * stepped_s)

    def count(self):
        return self.read()

    def tenancy(self):
        return Tenancy(contended=True, words="another process: 7")

    def close(self):
        pass
"""


@dataclass(frozen=True)
class OfToday(SelectionPolicy):
    id = "of-today"
    title = "Of today"
    summary = "The same in today's names."
    refreshes_skipped_losses = True

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        loss_N, order_N = examples.sorted_losses()
        keep = examples.budget_state.keep_fraction(0.4)
        pi_N = torch.full_like(loss_N, keep)
        pi_N[order_N[: examples.count_of_share(0.1)]] = 0.3 + 0.1 * (examples.epoch_index % 2)
        pi_N = torch.where(examples.memory["seen_N"] > 2, pi_N, torch.ones_like(pi_N))
        weight_N = normalised_correction_weights(pi_N, 0.5, examples.active_mask_N)
        return Decision(pi_N, weight_N=weight_N)

    def redecide_at(self) -> tuple[float, ...]:
        return (0.5,)

    def decision_flops(self, n: int) -> float:
        return 2.0 * n

    def initial_memory(self, n: int, device: torch.device) -> PolicyMemory:
        return {"seen_N": torch.zeros(n, device=device)}

    def on_batch_end(self, memory: PolicyMemory, batch: BatchOutputs) -> None:
        memory["seen_N"][batch.idx_B] += 1 + batch.epoch_index

    def batch_end_flops(self, output_count: int) -> float:
        return 3.0 * output_count

    def on_epoch_start(self, memory: PolicyMemory, examples: ExampleState) -> None:
        memory["seen_N"] += examples.epoch_index == 1

    def lr_multiplier(self, drawn_fraction: float) -> float:
        return 0.5 + 0.5 * drawn_fraction


class TodaysTask(TinyTask):
    id = "todays"

    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        super().__init__(seed, device, data)
        self.shade = torch.zeros(1)

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        picture = np.full((4, 4), int(self.shade) % 256, dtype=np.uint8)
        picture[0, : len(inputs.easiest_skipped(4))] = 255
        return {"map": picture}

    def extra_metrics(self, model: torch.nn.Module, split: str) -> dict[str, float]:
        return super().extra_metrics(model, split) | {"half": 0.5}

    def display_example(self, index: int) -> ExampleDisplay:
        return ExampleDisplay("text", self.class_name_of(index), (0, index))

    def record_outputs(self, idx_B: torch.Tensor, outputs: torch.Tensor) -> None:
        self.shade += len(idx_B)


class TodaysSource(EnergySource):
    id = "todays"
    title = "Today's"
    summary = "The same in today's names."
    quality = EnergyQuality.MEASURED
    hz = 10.0
    device_type = "cuda"
    times_counter_updates = True
    shared_use_hz = 1.0
    max_power_w = 150.0
    time: ClassVar[Any] = None

    def __init__(self) -> None:
        self.source, self.scope = "script", "a bench"

    @classmethod
    def open(cls, device: str) -> Self:
        return cls()

    def read(self) -> Reading:
        stepped_s = self.time.t // 0.1 * 0.1
        return Reading.point(self.time.t, 100.0, 100.0 * stepped_s)

    def shared_use(self) -> SharedUse:
        return SharedUse(True, "another process: 7")

    def close(self) -> None:
        pass


class Clock:
    """A time that a test passes, s."""

    def __init__(self) -> None:
        self.t = 100.0

    def now_s(self) -> float:
        return self.t


@pytest.fixture(scope="module")
def of_earlier() -> Iterator[dict[str, Any]]:
    """Classes in the names of an earlier version; each old name warns."""
    names: dict[str, Any] = {"__name__": "of_earlier"}
    with pytest.warns(DeprecationWarning, match="is deprecated: use ") as caught:
        exec(compile(OLD_FILE, "of_earlier.py", "exec"), names)
    text = "\n".join(str(warning.message) for warning in caught)
    overridden = re.findall(r"^    def (\w+)|^    (\w+) = ", OLD_FILE, re.MULTILINE)
    old = {name for attributes in OLD_ATTRIBUTES.values() for name in attributes}
    for name in old & {method or value for method, value in overridden}:
        assert f".{name} is deprecated" in text, name
    SELECTIONS.add(OfToday)
    TASKS.add(TodaysTask)
    TASKS.add(names["EarlierTask"])
    yield names
    for policy in ("of-earlier", "of-today"):
        SELECTIONS.remove(policy)
    for task in ("earlier", "todays"):
        TASKS.remove(task)


def results(**settings: Any) -> tuple[list[Event], list[Any]]:
    """What a run comes to, and what its views show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        events = trained(tiny_config(**settings))
    views = [event.items["map"].tolist() for event in of(ViewEvent, events)]  # type: ignore[union-attr]
    return events[-1:], views


def test_a_policy_in_old_names_trains_as_the_same_in_new_names(of_earlier: Any) -> None:
    with tiny_task():
        assert results(selection="of-earlier") == results(selection="of-today")
    with pytest.warns(DeprecationWarning, match="looks_besides"):
        assert of_earlier["OfEarlier"]().needs_extra_forward()


def test_a_task_in_old_names_trains_and_shows_as_the_same_in_new_names(of_earlier: Any) -> None:
    (ends, views), wanted = results(task="earlier"), results(task="todays")
    assert (ends, views) == wanted
    assert len({str(view) for view in views}) > 1, "what steps computed is seen in views"
    task = of_earlier["EarlierTask"](0, torch.device("cpu"))
    task.restore_view_state({"shade": torch.tensor([7.0])})
    assert task.view_state() == {"shade": 7.0}
    with pytest.warns(DeprecationWarning, match=r"given|spot"):
        shown = task.display_example(3)
    assert shown == TodaysTask(0, torch.device("cpu")).display_example(3)


def test_an_energy_source_in_old_names_reads_as_the_same_in_new_names(of_earlier: Any) -> None:
    energies = []
    for kind in (of_earlier["EarlierSource"], TodaysSource):
        clock = kind.time = Clock()
        turns: list[Turns] = []

        def schedule(
            turn: Any, name: str, clock: Clock = clock, turns: list[Turns] = turns
        ) -> Turns:
            turns.append(Turns(turn, name, clock))
            return turns[-1]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            source = kind.open("cuda")
            meter = RunMeter(source, clock.now_s, make_scheduler=schedule, phases=True)
            meter.start()
            turns[0].pass_time(clock.t + 10)
            energies.append(meter.stop())
        facts = (source.device_type, source.max_power_w, source.times_counter_updates)
        assert facts == ("cuda", 150.0, True)
    assert energies[0] == energies[1]
    assert energies[0].contended
    assert energies[0].ticks > 0


def test_a_class_mixed_in_may_hold_the_old_names() -> None:
    class Often:
        def moments(self) -> tuple[float, ...]:
            return (0.25, 0.75)

    with warned("Mixed.moments is deprecated: use redecide_at"):

        class Mixed(Often, OfToday):
            pass

    assert Mixed().redecide_at() == (0.25, 0.75)


def test_a_subclass_of_a_class_in_old_names_may_use_the_new_ones(of_earlier: Any) -> None:
    earlier: Any = of_earlier["OfEarlier"]

    class Later(earlier):  # type: ignore[misc]
        def redecide_at(self) -> tuple[float, ...]:
            return (*super().redecide_at(), 0.9)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert Later().redecide_at() == (0.5, 0.9)


def test_a_knob_that_is_called_like_an_old_method_stays_a_knob() -> None:
    from effcore.knobs import knob, values_of

    @dataclass(frozen=True)
    class Counting(OfToday):
        candidates: int = knob(3, lo=1, hi=9, step=1, label="Candidates", help="So many.")

    assert values_of(Counting()) == {"candidates": 3}
    assert Counting().scoring_batch_size(16) == 16
