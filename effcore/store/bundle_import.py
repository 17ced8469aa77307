"""From a bundle's members to the run in it, every value checked before anything is written.

Types are checked by the same code that reads the store (:mod:`effcore.store.serialization`); here
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
from effcore.store.bundle import (
    CHANGES_MEMBER,
    CONFIG_MEMBER,
    EVENT_KINDS,
    EVENTS_MEMBER,
    MANIFEST_MEMBER,
    NONFINITE_KEY,
)
from effcore.store.bundle_checks import check_bundle_files, parse_checked_view
from effcore.store.bundle_unzip import BundleError, parse_strict_json, read_bundle_members
from effcore.store.epoch_records import EPOCH_RECORDS_FILE, parse_epoch_records
from effcore.store.labels import Labels, validated_labels
from effcore.store.run_files import VIEW_FILE
from effcore.store.serialization import KnobValues, StoredRecord, decode_knob_values, decode_record
from effcore.store.store import is_run_id

#: A task, a model, a policy; a knob, or a setting of a task's data.
_ID_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)
_KNOB_NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_DEVICE_PATTERN: Final = re.compile(r"cpu|cuda(:[0-9]{1,3})?", re.ASCII)
_ID_FIELDS: Final = ("task", "model", "selection", "update", "intensity", "optimizer", "precision",
               "size")  # fmt: skip
#: The latest time that a page can show, seconds since 1970.
_MAX_CREATED_UNIX: Final = 253_402_300_000.0
#: Events in which a number may be none: a threshold that cuts nothing, a metric that broke.
_EVENTS_WITH_NONFINITE: Final = ("histogram", "end")
_EVENT_TYPES: Final[Mapping[str, type[Any]]] = {
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
    events: Mapping[str, StoredRecord | KnobValues]
    changes: tuple[KnobChange, ...]
    files: Mapping[str, bytes]
    view: ViewEvent | None


def read_bundle(raw: bytes) -> Bundle:
    """Return the run in a bundle; writes nothing.

    Raises:
        BundleError: It is no bundle, is damaged, or holds what no run does.
    """
    manifest, members = read_bundle_members(raw)
    try:
        config = _parse_config(members[CONFIG_MEMBER])
        events = _parse_events(parse_strict_json(EVENTS_MEMBER, members[EVENTS_MEMBER]))
        changes = _parse_knob_changes(parse_strict_json(CHANGES_MEMBER, members[CHANGES_MEMBER]))
        files = {
            n: data
            for n, data in members.items()
            if n not in (CONFIG_MEMBER, EVENTS_MEMBER, CHANGES_MEMBER, VIEW_FILE)
        }
        check_bundle_files(files)
        view = parse_checked_view(members[VIEW_FILE]) if VIEW_FILE in members else None
        bundle = Bundle(
            **_bundle_fields_from_manifest(manifest),
            config=config,
            events=events,
            changes=changes,
            files=files,
            view=view,
        )
        _check_end_status(bundle)
        _check_example_count(bundle)
    except BundleError:
        raise
    except (ValueError, OverflowError) as error:
        raise BundleError(f"{error}; export the run again") from error
    return bundle


def _bundle_fields_from_manifest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the manifest says of the run itself."""
    run_id, reference_id = _manifest_value(manifest, "run_id", str), manifest.get("reference_id")
    for one in (run_id, *([] if reference_id is None else [reference_id])):
        if not isinstance(one, str) or not is_run_id(one):
            raise ValueError(f"its {MANIFEST_MEMBER} has {str(one)[:40]!r} for a run's id")
    status = RunStatus(_manifest_value(manifest, "status", str))
    if not status.is_final:
        raise ValueError(f"its run is {status}: only one that is over can be taken in")
    labels = _manifest_value(manifest, "labels", dict)
    tags = _manifest_value(labels, "tags", list)
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("its tags are no texts")
    return {
        "run_id": run_id,
        "reference_id": reference_id,
        "status": status,
        "created_unix": _manifest_number(manifest, "created_unix", _MAX_CREATED_UNIX),
        "progress": _manifest_number(manifest, "progress", 1.0),
        "exploratory": _manifest_value(manifest, "exploratory", bool),
        "labels": validated_labels(
            _manifest_value(labels, "name", str), tags, _manifest_value(labels, "note", str)
        ),
    }


def _manifest_value(data: Mapping[str, Any], name: str, expected_type: type[T]) -> T:
    value = data.get(name)
    if type(value) is not expected_type:
        raise ValueError(
            f"its {MANIFEST_MEMBER} has {name}={str(value)[:40]!r}: not a {expected_type.__name__}"
        )
    return value


def _manifest_number(data: Mapping[str, Any], name: str, maximum: float) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum:
        raise ValueError(
            f"its {MANIFEST_MEMBER} has {name}={str(value)[:40]!r}: not from 0 to {maximum:g}"
        )
    return float(value)


def _parse_config(raw: bytes) -> RunConfig:
    config = decode_record(RunConfig, json.dumps(parse_strict_json(CONFIG_MEMBER, raw)))
    for field in _ID_FIELDS:
        _check_pattern(_ID_PATTERN, field, getattr(config, field))
    _check_pattern(_DEVICE_PATTERN, "device", config.device)
    for name in (*config.knobs, *config.data, *(change.name for change in config.changes)):
        _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
    least = {"epochs": 1, "batch_size": 1, "threads": 1, "seed": 0, "clip_norm": 0,
             "learning_rate": 0}  # fmt: skip
    _check_minimums("configuration", config, least)
    if config.budget is not None and not 0 < config.budget <= 1:
        raise ValueError(f"its configuration has budget={config.budget}: not a share")
    if any(change.step < 0 for change in config.changes):
        raise ValueError("its configuration changes a knob before the first step")
    return config


def _check_pattern(pattern: re.Pattern[str], what: str, text: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"its configuration has {text[:40]!r} for a {what}")


def _check_minimums(what: str, record: Any, minimums: Mapping[str, float]) -> None:
    for name, smallest in minimums.items():
        value = getattr(record, name)
        if value is not None and not (math.isfinite(value) and value >= smallest):
            raise ValueError(f"its {what} has {name}={value}: at least {smallest:g} is allowed")


def _parse_events(data: Any) -> dict[str, StoredRecord | KnobValues]:
    if not isinstance(data, dict):
        raise ValueError(f"its {EVENTS_MEMBER} holds no events")
    if unknown := set(data) - set(EVENT_KINDS):
        raise ValueError(
            f"its {EVENTS_MEMBER} holds {min(unknown)[:40]!r}, and {', '.join(EVENT_KINDS)} are "
            "known"
        )
    found: dict[str, StoredRecord | KnobValues] = {}
    for kind, event in data.items():
        text = json.dumps(
            _restore_nonfinite_numbers(event) if kind in _EVENTS_WITH_NONFINITE else event
        )
        if kind == "knobs":
            found[kind] = knobs = decode_knob_values(text)
            for name in knobs:
                _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
        else:
            found[kind] = _check_event(kind, decode_record(_EVENT_TYPES[kind], text))
    return found


def _restore_nonfinite_numbers(data: Any) -> Any:
    """Return an event with its numbers that are none, as they were before they were written."""
    if isinstance(data, dict) and set(data) == {NONFINITE_KEY}:
        if data[NONFINITE_KEY] not in ("nan", "inf", "-inf"):
            raise ValueError(f"{str(data[NONFINITE_KEY])[:40]!r} stands for no number")
        return float(data[NONFINITE_KEY])
    if isinstance(data, dict):
        return {key: _restore_nonfinite_numbers(value) for key, value in data.items()}
    return [_restore_nonfinite_numbers(value) for value in data] if isinstance(data, list) else data


def _check_event(kind: str, event: Any) -> StoredRecord:
    least: Mapping[str, float] = {}
    match event:
        case RunStart():
            least = dict.fromkeys(RunStart._fields, 0) | {"n_train": 1}
        case RunEnd():
            least = dict.fromkeys(_NONNEGATIVE_END_FIELDS, 0)
        case Energy():
            least = dict.fromkeys(_NONNEGATIVE_ENERGY_FIELDS, 0)
            _check_energy(event)
        case LossHistogram():
            least = {"step": 0, "n_unseen": 0}
            if (event.counts < 0).any() or not all(map(math.isfinite, event.edges)):
                raise ValueError("its histogram counts less than nothing, or has no edges")
        case PhaseAttribution():
            if event.phases and [each.phase for each in event.phases] != [*PHASES, NO_PHASE]:
                raise ValueError("its energy by phase is not of the phases of a run")
            for phase in event.phases:
                _check_minimums("energy by phase", phase, {"seconds": 0})
    _check_minimums(kind, event, least)
    record: StoredRecord = event
    return record


_NONNEGATIVE_END_FIELDS: Final = (
    "passes",
    "examples_considered",
    "examples_trained",
    "flops_spent",
    "flops_dense",
    "flops_full",
    "seconds",
)
_NONNEGATIVE_ENERGY_FIELDS: Final = (
    "joules",
    "lo",
    "hi",
    "seconds",
    "ticks",
    "max_gap_s",
    "throttled_s",
    "power_limit_w",
    "hz",
    "step_s",
    "crosscheck",
)


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


def _parse_knob_changes(data: Any) -> tuple[KnobChange, ...]:
    if not isinstance(data, list) or not all(isinstance(c, list) and len(c) == 3 for c in data):
        raise ValueError(f"its {CHANGES_MEMBER} is no list of knob changes")
    for step, name, value in data:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if type(step) is not int or step < 0 or not isinstance(name, str) or not number:
            raise ValueError(
                f"its {CHANGES_MEMBER} holds {str([step, name, value])[:80]}: no knob change"
            )
        _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
    return tuple(KnobChange(*change) for change in data)


def _check_end_status(bundle: Bundle) -> None:
    end = bundle.events.get("end")
    if isinstance(end, RunEnd) and end.status is not bundle.status:
        raise ValueError(f"its run is {bundle.status}, and ended {end.status}")


def _check_example_count(bundle: Bundle) -> None:
    start, raw = bundle.events.get("start"), bundle.files.get(EPOCH_RECORDS_FILE, b"")
    for each in parse_epoch_records(raw)[0][:1]:
        if not isinstance(start, RunStart) or each.n != start.n_train:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} is of {each.n} examples, and the run of others"
            )
