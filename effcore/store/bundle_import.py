"""Parsing and validation of bundles.

Types are checked by the code that reads the store (:mod:`effcore.store.serialization`). This
module checks the other invariants of a run: well-formed ids, counts that are not negative, and
values in range; :mod:`effcore.store.bundle_checks` checks the binary files.
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
from effcore.store.labels import Labels, validated_labels
from effcore.store.run_files import EPOCH_RECORDS_FILE, VIEW_FILE, parse_epoch_records
from effcore.store.serialization import KnobValues, StoredRecord, decode_knob_values, decode_record
from effcore.store.store import is_run_id

#: Ids of tasks, models and policies; names of knobs and data settings.
_ID_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)
_KNOB_NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_DEVICE_PATTERN: Final = re.compile(r"cpu|cuda(:[0-9]{1,3})?", re.ASCII)
_ID_FIELDS: Final = ("task", "model", "selection", "update", "intensity", "optimizer", "precision",
               "size")  # fmt: skip
#: Latest time that a page can show, seconds since 1970.
_MAX_CREATED_UNIX: Final = 253_402_300_000.0
#: Events that may hold infinities and NaN: a threshold that skips nothing, a diverged metric.
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
    """A validated run from a bundle.

    Attributes:
        run_id: Id of the run on the exporting machine.
        created_unix: Time of creation, seconds since 1970.
        status: Final status.
        progress: Progress at the end, from 0 to 1.
        exploratory: Whether the run was steered or slowed.
        reference_id: Id of the dense run that it was compared with.
        labels: Name, tags and note.
        config: Configuration.
        events: Latest event of each kind.
        changes: Knob changes.
        files: Tables, decisions and epoch records, by file name.
        view: Latest view.
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
    """Parse and validate a bundle.

    Raises:
        BundleError: The bytes are no bundle, are damaged, or hold values that no run has.
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
    """Return the fields of :class:`Bundle` that the manifest holds."""
    run_id, reference_id = _manifest_value(manifest, "run_id", str), manifest.get("reference_id")
    for some_id in (run_id, *([] if reference_id is None else [reference_id])):
        if not isinstance(some_id, str) or not is_run_id(some_id):
            raise ValueError(f"its {MANIFEST_MEMBER} has {str(some_id)[:40]!r} for a run's id")
    status = RunStatus(_manifest_value(manifest, "status", str))
    if not status.is_final:
        raise ValueError(f"its run is {status}: only a run that has ended can be imported")
    labels = _manifest_value(manifest, "labels", dict)
    tags = _manifest_value(labels, "tags", list)
    if not all(isinstance(tag, str) for tag in tags):
        raise ValueError("its tags are not texts")
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
            f"its {MANIFEST_MEMBER} has {name}={str(value)[:40]!r}: "
            f"expected a {expected_type.__name__}"
        )
    return value


def _manifest_number(data: Mapping[str, Any], name: str, maximum: float) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum:
        raise ValueError(
            f"its {MANIFEST_MEMBER} has {name}={str(value)[:40]!r}: "
            f"expected a number from 0 to {maximum:g}"
        )
    return float(value)


def _parse_config(raw: bytes) -> RunConfig:
    config = decode_record(RunConfig, json.dumps(parse_strict_json(CONFIG_MEMBER, raw)))
    for field in _ID_FIELDS:
        _check_pattern(_ID_PATTERN, field, getattr(config, field))
    _check_pattern(_DEVICE_PATTERN, "device", config.device)
    for name in (*config.knobs, *config.data, *(change.name for change in config.changes)):
        _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
    minimums = {"epochs": 1, "batch_size": 1, "threads": 1, "seed": 0, "clip_norm": 0,
                "learning_rate": 0}  # fmt: skip
    _check_minimums("configuration", config, minimums)
    if config.budget is not None and not 0 < config.budget <= 1:
        raise ValueError(
            f"its configuration has budget={config.budget}: expected a share above 0 and up to 1"
        )
    if any(change.step < 0 for change in config.changes):
        raise ValueError("its configuration has a knob change at a negative step")
    return config


def _check_pattern(pattern: re.Pattern[str], what: str, text: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"its configuration has {text[:40]!r} for a {what}")


def _check_minimums(what: str, record: Any, minimums: Mapping[str, float]) -> None:
    for name, smallest in minimums.items():
        value = getattr(record, name)
        if value is not None and not (math.isfinite(value) and value >= smallest):
            raise ValueError(f"its {what} has {name}={value}: expected at least {smallest:g}")


def _parse_events(data: Any) -> dict[str, StoredRecord | KnobValues]:
    if not isinstance(data, dict):
        raise ValueError(f"its {EVENTS_MEMBER} is not a JSON object of events")
    if unknown := set(data) - set(EVENT_KINDS):
        raise ValueError(
            f"its {EVENTS_MEMBER} holds the unknown event {min(unknown)[:40]!r}: expected "
            f"{', '.join(EVENT_KINDS)}"
        )
    events: dict[str, StoredRecord | KnobValues] = {}
    for kind, event in data.items():
        text = json.dumps(
            _restore_nonfinite_numbers(event) if kind in _EVENTS_WITH_NONFINITE else event
        )
        if kind == "knobs":
            events[kind] = knobs = decode_knob_values(text)
            for name in knobs:
                _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
        else:
            events[kind] = _check_event(kind, decode_record(_EVENT_TYPES[kind], text))
    return events


def _restore_nonfinite_numbers(data: Any) -> Any:
    """Return an event with its NaN and infinities restored; see ``NONFINITE_KEY``."""
    if isinstance(data, dict) and set(data) == {NONFINITE_KEY}:
        if data[NONFINITE_KEY] not in ("nan", "inf", "-inf"):
            raise ValueError(f"{str(data[NONFINITE_KEY])[:40]!r} is not one of nan, inf and -inf")
        return float(data[NONFINITE_KEY])
    if isinstance(data, dict):
        return {key: _restore_nonfinite_numbers(value) for key, value in data.items()}
    return [_restore_nonfinite_numbers(value) for value in data] if isinstance(data, list) else data


def _check_event(kind: str, event: Any) -> StoredRecord:
    minimums: Mapping[str, float] = {}
    match event:
        case RunStart():
            minimums = dict.fromkeys(RunStart._fields, 0) | {"n_train": 1}
        case RunEnd():
            minimums = dict.fromkeys(_NONNEGATIVE_END_FIELDS, 0)
        case Energy():
            minimums = dict.fromkeys(_NONNEGATIVE_ENERGY_FIELDS, 0)
            _check_energy(event)
        case LossHistogram():
            minimums = {"step": 0, "n_unseen": 0}
            if (event.counts < 0).any() or not all(map(math.isfinite, event.edges)):
                raise ValueError("its histogram has negative counts, or edges that are not finite")
        case PhaseAttribution():
            if event.phases and [energy.phase for energy in event.phases] != [*PHASES, NO_PHASE]:
                raise ValueError("its energy by phase does not list the phases of a run")
            for phase in event.phases:
                _check_minimums("energy by phase", phase, {"seconds": 0})
    _check_minimums(kind, event, minimums)
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
    """Check intervals, idle power and texts; charts would interpret markup in texts."""
    if energy.lo is not None and energy.hi is not None and energy.lo > energy.hi:
        raise ValueError(f"its energy has lo={energy.lo} above hi={energy.hi}")
    if energy.joules is not None and energy.quality in (
        EnergyQuality.ESTIMATED,
        EnergyQuality.UNAVAILABLE,
    ):
        raise ValueError(f"its energy is {energy.quality}, but has a value")
    for idle_power in energy.idle_w:
        if len(idle_power) != 3 or not all(map(math.isfinite, idle_power)):
            raise ValueError(f"its energy has {idle_power} for idle power: expected three numbers")
        if list(idle_power) != sorted(idle_power):
            raise ValueError(f"its energy has {idle_power} for idle power: not in rising order")
    if len(energy.idle_s) not in (0, len(energy.idle_w)):
        raise ValueError(f"its energy has {len(energy.idle_s)} durations for "
                         f"{len(energy.idle_w)} idle readings")  # fmt: skip
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in energy.idle_s):
        raise ValueError(
            f"its energy has {energy.idle_s} for durations of idle readings, in seconds"
        )
    texts = (energy.source, energy.scope, energy.card, energy.driver, energy.left_out)
    for text in (*texts, energy.device_uuid or "", *energy.notes):
        if len(text) > 1000 or "<" in text or ">" in text:
            raise ValueError(
                f"its energy has {text[:40]!r}: expected plain text of up to 1000 characters"
            )


def _parse_knob_changes(data: Any) -> tuple[KnobChange, ...]:
    if not isinstance(data, list) or not all(isinstance(c, list) and len(c) == 3 for c in data):
        raise ValueError(f"its {CHANGES_MEMBER} is not a list of knob changes")
    for step, name, value in data:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if type(step) is not int or step < 0 or not isinstance(name, str) or not is_number:
            raise ValueError(
                f"its {CHANGES_MEMBER} holds {str([step, name, value])[:80]}: expected step, name "
                "and number"
            )
        _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
    return tuple(KnobChange(*change) for change in data)


def _check_end_status(bundle: Bundle) -> None:
    end = bundle.events.get("end")
    if isinstance(end, RunEnd) and end.status is not bundle.status:
        raise ValueError(f"its run is {bundle.status}, but its end event says {end.status}")


def _check_example_count(bundle: Bundle) -> None:
    start, raw = bundle.events.get("start"), bundle.files.get(EPOCH_RECORDS_FILE, b"")
    for record in parse_epoch_records(raw)[0][:1]:
        if not isinstance(start, RunStart) or record.n != start.n_train:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} is of {record.n} examples, but the run is not"
            )
