"""From a bundle's members to the run in it, every value checked before anything is written.

Types are checked by the same code that reads the store (:mod:`effcore.store.codec`); here
stands what else a run always keeps to: ids that are ids, counts that are not negative,
tables of whole rows that go forward, a view of the arrays that it says.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

from effcore.records import (
    PHASES,
    Energy,
    EnergyQuality,
    KnobChange,
    LossHistogram,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    ViewEvent,
)
from effcore.records.attribution import NO_PHASE, PhaseAttribution
from effcore.store.bundle import CHANGES, CONFIG, EVENTS, KINDS, MANIFEST, NONFINITE
from effcore.store.codec import Knobs, Record, decode, decode_knobs
from effcore.store.files import VIEW
from effcore.store.labels import Labels, checked
from effcore.store.losses import LOSSES, losses_in
from effcore.store.measures import check_files, check_view
from effcore.store.store import is_run_id
from effcore.store.unzip import BundleError, strict_json, unzip

#: A task, a model, a policy; a knob, or a setting of a task's data.
_ID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_DEVICE: Final = re.compile(r"cpu|cuda(:[0-9]{1,3})?", re.ASCII)
_IDS: Final = ("task", "model", "selection", "update", "intensity", "optimizer", "precision",
               "size")  # fmt: skip
#: The latest time that a page can show, seconds since 1970.
_LATEST: Final = 253_402_300_000.0
#: Events in which a number may be none: a threshold that cuts nothing, a metric that broke.
_LOOSE: Final = ("histogram", "end")
_RECORDS: Final[Mapping[str, type[Any]]] = {
    "start": RunStart,
    "histogram": LossHistogram,
    "energy": Energy,
    "attribution": PhaseAttribution,
    "end": RunEnd,
}
T = TypeVar("T")


class Bundle(NamedTuple):
    """A run out of a bundle, checked; what is in it is as in the store.

    Attributes:
        run_id: The id it had.
        created_unix: When it began.
        status: What became of it; final.
        progress: How far it got, from 0 to 1.
        exploratory: Whether its pace was meddled with.
        reference_id: The dense run it was compared with.
        labels: What was said of it.
        config: What it trained.
        events: The latest event of each kind.
        changes: Its knob changes.
        files: Its tables, decisions and losses, by the name of the file.
        view: Its latest view.
    """

    run_id: str
    created_unix: float
    status: RunStatus
    progress: float
    exploratory: bool
    reference_id: str | None
    labels: Labels
    config: RunConfig
    events: Mapping[str, Record | Knobs]
    changes: tuple[KnobChange, ...]
    files: Mapping[str, bytes]
    view: ViewEvent | None


def read_bundle(raw: bytes) -> Bundle:
    """Return the run in a bundle; writes nothing.

    Raises:
        BundleError: It is no bundle, is damaged, or holds what no run does.
    """
    manifest, members = unzip(raw)
    try:
        config = _config(members[CONFIG])
        events = _events(strict_json(EVENTS, members[EVENTS]))
        changes = _changes(strict_json(CHANGES, members[CHANGES]))
        files = {n: data for n, data in members.items() if n not in (CONFIG, EVENTS, CHANGES, VIEW)}
        check_files(files)
        view = check_view(members[VIEW]) if VIEW in members else None
        bundle = Bundle(
            **_facts(manifest), config=config, events=events, changes=changes, files=files,
            view=view,
        )  # fmt: skip
        _check_end(bundle)
        _check_count(bundle)
    except BundleError:
        raise
    except (ValueError, OverflowError) as error:
        raise BundleError(f"{error}; export the run again") from error
    return bundle


def _facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest says of the run itself."""
    run_id, reference_id = _of(manifest, "run_id", str), manifest.get("reference_id")
    for one in (run_id, *([] if reference_id is None else [reference_id])):
        if not isinstance(one, str) or not is_run_id(one):
            raise ValueError(f"its {MANIFEST} has {str(one)[:40]!r} for a run's id")
    status = RunStatus(_of(manifest, "status", str))
    if not status.is_final:
        raise ValueError(f"its run is {status}: only one that is over can be taken in")
    labels = _of(manifest, "labels", dict)
    tags = _of(labels, "tags", list)
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("its tags are no texts")
    return {
        "run_id": run_id,
        "reference_id": reference_id,
        "status": status,
        "created_unix": _within(manifest, "created_unix", _LATEST),
        "progress": _within(manifest, "progress", 1.0),
        "exploratory": _of(manifest, "exploratory", bool),
        "labels": checked(_of(labels, "name", str), tags, _of(labels, "note", str)),
    }


def _of(data: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = data.get(name)
    if type(value) is not kind:
        raise ValueError(f"its {MANIFEST} has {name}={str(value)[:40]!r}: not a {kind.__name__}")
    return value


def _within(data: Mapping[str, Any], name: str, most: float) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"its {MANIFEST} has {name}={str(value)[:40]!r}: not from 0 to {most:g}")
    return float(value)


def _config(raw: bytes) -> RunConfig:
    config = decode(RunConfig, json.dumps(strict_json(CONFIG, raw)))
    for field in _IDS:
        _match(_ID, field, getattr(config, field))
    _match(_DEVICE, "device", config.device)
    for name in (*config.knobs, *config.data, *(change.name for change in config.changes)):
        _match(_NAME, "name of a knob", name)
    least = {"epochs": 1, "batch_size": 1, "threads": 1, "seed": 0, "clip_norm": 0,
             "learning_rate": 0}  # fmt: skip
    _check_least("configuration", config, least)
    if config.budget is not None and not 0 < config.budget <= 1:
        raise ValueError(f"its configuration has budget={config.budget}: not a share")
    if any(change.step < 0 for change in config.changes):
        raise ValueError("its configuration changes a knob before the first step")
    return config


def _match(pattern: re.Pattern[str], what: str, text: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"its configuration has {text[:40]!r} for a {what}")


def _check_least(what: str, record: Any, least: Mapping[str, float]) -> None:
    for name, smallest in least.items():
        value = getattr(record, name)
        if value is not None and not (math.isfinite(value) and value >= smallest):
            raise ValueError(f"its {what} has {name}={value}: at least {smallest:g} is allowed")


def _events(data: Any) -> dict[str, Record | Knobs]:
    if not isinstance(data, dict):
        raise ValueError(f"its {EVENTS} holds no events")
    if unknown := set(data) - set(KINDS):
        raise ValueError(
            f"its {EVENTS} holds {min(unknown)[:40]!r}, and {', '.join(KINDS)} are known"
        )
    found: dict[str, Record | Knobs] = {}
    for kind, event in data.items():
        text = json.dumps(_numbered(event) if kind in _LOOSE else event)
        if kind == "knobs":
            found[kind] = knobs = decode_knobs(text)
            for name in knobs:
                _match(_NAME, "name of a knob", name)
        else:
            found[kind] = _checked_event(kind, decode(_RECORDS[kind], text))
    return found


def _numbered(data: Any) -> Any:
    """Return an event with its numbers that are none, as they were before they were written."""
    if isinstance(data, dict) and set(data) == {NONFINITE}:
        if data[NONFINITE] not in ("nan", "inf", "-inf"):
            raise ValueError(f"{str(data[NONFINITE])[:40]!r} stands for no number")
        return float(data[NONFINITE])
    if isinstance(data, dict):
        return {key: _numbered(value) for key, value in data.items()}
    return [_numbered(value) for value in data] if isinstance(data, list) else data


def _checked_event(kind: str, event: Any) -> Record:
    least: Mapping[str, float] = {}
    match event:
        case RunStart():
            least = dict.fromkeys(RunStart._fields, 0) | {"n_train": 1}
        case RunEnd():
            least = dict.fromkeys(_END_COUNTS, 0)
        case Energy():
            least = dict.fromkeys(_ENERGY_COUNTS, 0)
            _check_energy(event)
        case LossHistogram():
            least = {"step": 0, "n_unseen": 0}
            if (event.counts < 0).any() or not all(map(math.isfinite, event.edges)):
                raise ValueError("its histogram counts less than nothing, or has no edges")
        case PhaseAttribution():
            if event.phases and [each.phase for each in event.phases] != [*PHASES, NO_PHASE]:
                raise ValueError("its energy by phase is not of the phases of a run")
            for phase in event.phases:
                _check_least("energy by phase", phase, {"seconds": 0})
    _check_least(kind, event, least)
    record: Record = event
    return record


_END_COUNTS: Final = ("passes", "examples_considered", "examples_trained", "flops_spent",
                      "flops_dense", "seconds")  # fmt: skip
_ENERGY_COUNTS: Final = ("joules", "lo", "hi", "seconds", "ticks", "max_gap_s", "throttled_s",
                         "power_limit_w", "hz", "step_s", "crosscheck")  # fmt: skip


def _check_energy(energy: Energy) -> None:
    """Refuse an interval that ends before it begins, and markup, which a chart would draw."""
    if energy.lo is not None and energy.hi is not None and energy.lo > energy.hi:
        raise ValueError(f"its energy has lo={energy.lo} above hi={energy.hi}")
    if energy.joules is not None and energy.quality in (
        EnergyQuality.ESTIMATED,
        EnergyQuality.UNAVAILABLE,
    ):
        raise ValueError(f"its energy is {energy.quality}, and has a value all the same")
    for power in energy.idle_w:
        if len(power) != 3 or not all(map(math.isfinite, power)) or list(power) != sorted(power):
            raise ValueError(f"its energy has {power} for idle power: not three numbers in order")
    if len(energy.idle_s) not in (0, len(energy.idle_w)):
        raise ValueError(f"its energy has {len(energy.idle_s)} lengths of idle readings, not "
                         f"{len(energy.idle_w)}")  # fmt: skip
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in energy.idle_s):
        raise ValueError(f"its energy has {energy.idle_s} for lengths of idle readings, in s")
    facts = (energy.source, energy.scope, energy.card, energy.driver, energy.left_out)
    for text in (*facts, energy.device_uuid or "", *energy.notes):
        if len(text) > 1000 or "<" in text or ">" in text:
            raise ValueError(f"its energy says {text[:40]!r}, which is no plain short text")


def _changes(data: Any) -> tuple[KnobChange, ...]:
    if not isinstance(data, list) or not all(isinstance(c, list) and len(c) == 3 for c in data):
        raise ValueError(f"its {CHANGES} is no list of knob changes")
    for step, name, value in data:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if type(step) is not int or step < 0 or not isinstance(name, str) or not number:
            raise ValueError(f"its {CHANGES} holds {str([step, name, value])[:80]}: no knob change")
        _match(_NAME, "name of a knob", name)
    return tuple(KnobChange(*change) for change in data)


def _check_end(bundle: Bundle) -> None:
    end = bundle.events.get("end")
    if isinstance(end, RunEnd) and end.status is not bundle.status:
        raise ValueError(f"its run is {bundle.status}, and ended {end.status}")


def _check_count(bundle: Bundle) -> None:
    start, raw = bundle.events.get("start"), bundle.files.get(LOSSES, b"")
    for each in losses_in(raw)[0][:1]:
        if not isinstance(start, RunStart) or each.n != start.n_train:
            raise ValueError(f"its {LOSSES} is of {each.n} examples, and the run of others")
