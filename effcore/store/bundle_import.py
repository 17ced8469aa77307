"""Import of runs from bundles: safe extraction, validation, and storage.

Nothing in a bundle is trusted. Members are unpacked in memory; their names and sizes are checked
against the format and not taken from the zip's own claims. Types are checked by the code that
reads the store (:mod:`effcore.store.serialization`); this module checks the other invariants of a
run: well-formed ids, counts that are not negative, values in range, and the binary files.

Energy keeps its quality, and its source and scope name the other machine; measured energy becomes
``recorded``, since this machine did not measure it. An imported run is never a reference, since
seconds and energy of two machines do not compare.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import re
import shutil
import stat
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Annotated, Any, Final, NamedTuple

import msgspec
import numpy as np

from effcore.records import (
    PHASE_COLUMNS,
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
from effcore.records.attribution import NO_PHASE, AttributedPhaseEnergy, PhaseAttribution
from effcore.records.epoch_record import EpochRecord
from effcore.records.views import Scatter, ShadedText
from effcore.store.bundle import (
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    CHANGES_MEMBER,
    CONFIG_MEMBER,
    EVENT_KINDS,
    EVENTS_MEMBER,
    MANIFEST_MEMBER,
    MEMBERS,
    NONFINITE_KEY,
    OPTIONAL_MEMBERS,
)
from effcore.store.db import StoreError, translate_storage_errors
from effcore.store.labels import Labels, validated_labels
from effcore.store.run_files import (
    DECISIONS_FILE,
    EPOCH_RECORDS_FILE,
    EVALS_FILE,
    PHASES_FILE,
    POWER_FILE,
    STEPS_FILE,
    TABLE_COLUMNS,
    VIEW_FILE,
    parse_decisions,
    parse_epoch_records,
    parse_table,
    parse_view,
    save_view,
)
from effcore.store.serialization import (
    KnobValues,
    StoredRecord,
    decode_knob_changes,
    decode_knob_values,
    decode_record,
    encode_record,
)
from effcore.store.store import Store, is_run_id, new_run_id

_MB: Final = 1 << 20
#: Largest bundle, and largest total size of its members after unpacking, bytes.
MAX_BUNDLE_BYTES, MAX_UNPACKED_BYTES = 200 * _MB, 256 * _MB
#: Largest size of a member in bytes, by name; a table of a million steps fits.
_MAX_MEMBER_BYTES: Final = {
    MANIFEST_MEMBER: _MB,
    CONFIG_MEMBER: _MB,
    EVENTS_MEMBER: _MB,
    CHANGES_MEMBER: 16 * _MB,
    VIEW_FILE: 32 * _MB,
}
_MAX_OTHER_MEMBER_BYTES: Final = 128 * _MB
#: End record of a zip: signature, four counts of disks and entries, size and offset of the
#: directory, length of the comment.
_ZIP_END_RECORD: Final = struct.Struct("<4s4H2IH")
#: Limits of the zip directory: above what a bundle needs, so that a stray file can be named.
_MAX_FILES, _MAX_ZIP_DIRECTORY_BYTES = 64, 16 * 1024
#: Limits of JSON data: nesting depth, text length and magnitude of integers.
_MAX_JSON_DEPTH, _MAX_TEXT_LENGTH, _MAX_WHOLE_NUMBER = 16, 20_000, 2**53

#: Ids of tasks, models and policies; names of knobs and data settings.
_ID_PATTERN: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}", re.ASCII)
_KNOB_NAME_PATTERN: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_DEVICE_PATTERN: Final = re.compile(r"cpu|cuda(:[0-9]{1,3})?", re.ASCII)
#: Events that may hold infinities and NaN: a threshold that skips nothing, a diverged metric.
_EVENTS_WITH_NONFINITE: Final = ("histogram", "end")
_EVENT_TYPES: Final[Mapping[str, type[Any]]] = {
    "start": RunStart,
    "histogram": LossHistogram,
    "energy": Energy,
    "attribution": PhaseAttribution,
    "end": RunEnd,
}
#: Fields that are finite and have a smallest value, by record type.
_MINIMUMS: Final[Mapping[Any, Mapping[str, float]]] = {
    RunConfig: dict.fromkeys(("epochs", "batch_size", "threads"), 1)
    | dict.fromkeys(("seed", "clip_norm", "learning_rate"), 0),
    RunStart: dict.fromkeys(RunStart._fields, 0) | {"n_train": 1},
    RunEnd: dict.fromkeys(("passes", "examples_considered", "examples_trained", "flops_spent",
                           "flops_dense", "flops_full", "seconds"), 0),
    Energy: dict.fromkeys(("joules", "lo", "hi", "seconds", "ticks", "max_gap_s", "throttled_s",
                           "power_limit_w", "hz", "step_s", "crosscheck"), 0),
    LossHistogram: {"step": 0, "n_unseen": 0},
    AttributedPhaseEnergy: {"seconds": 0},
}  # fmt: skip
#: Columns of tables whose values are finite, not negative and never fall.
_NONDECREASING_COLUMNS: Final = {
    STEPS_FILE: ("step", "considered", "trained", "seconds", "flops", "selection_flops"),
    EVALS_FILE: ("step", "considered", "seconds", "flops"),
    POWER_FILE: ("seconds",),
    PHASES_FILE: PHASE_COLUMNS,
}
_MAX_VIEW_ITEMS: Final = 16
#: Header that :func:`numpy.save` writes for the array types of a view.
_NPY_HEADER_PATTERN: Final = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(\|u1|<f4)', 'fortran_order': (?:True|False), "
    rb"'shape': \(([0-9, ]{0,60})\), \} *\n",
    re.DOTALL,
)
_OTHER_MACHINE_PREFIX: Final = "another machine's "


class BundleError(ValueError):
    """A file is no bundle, or a bundle that cannot be imported; the message says why."""


class RunIdTakenError(StoreError):
    """The store has a run of that id already, perhaps in the trash."""


class _ManifestLabels(msgspec.Struct):
    name: str
    tags: list[str]
    note: str


class _Manifest(msgspec.Struct):
    run_id: str
    #: Up to the latest time that a page can show, seconds since 1970.
    created_unix: Annotated[float, msgspec.Meta(ge=0, le=253_402_300_000)]
    status: RunStatus
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)]
    exploratory: bool
    labels: _ManifestLabels
    reference_id: str | None = None


class Bundle(NamedTuple):
    """A validated run from a bundle, with the ids that it had on the exporting machine."""

    run_id: str
    created_unix: float
    status: RunStatus
    progress: float
    exploratory: bool
    reference_id: str | None
    labels: Labels
    config: RunConfig
    events: Mapping[str, StoredRecord | KnobValues]  # latest of each kind
    changes: tuple[KnobChange, ...]
    files: Mapping[str, bytes]  # tables, decisions and epoch records, by file name
    view: ViewEvent | None


def read_bundle(raw: bytes) -> Bundle:
    """Parse and validate a bundle.

    Raises:
        BundleError: The bytes are no bundle, are damaged, or hold values that no run has.
    """
    members = _unpack_members(raw)
    manifest = _parse_strict_json(MANIFEST_MEMBER, members.pop(MANIFEST_MEMBER))
    _check_format_and_checksums(manifest, members)
    try:
        config = _parse_config(members.pop(CONFIG_MEMBER))
        events = _parse_events(members.pop(EVENTS_MEMBER))
        changes = _parse_knob_changes(members.pop(CHANGES_MEMBER))
        view = _parse_view(members.pop(VIEW_FILE)) if VIEW_FILE in members else None
        for name in TABLE_COLUMNS:
            if name in members:
                _check_table(name, members[name])
        _check_decisions(members[DECISIONS_FILE])
        start, end = events.get("start"), events.get("end")
        epoch_records = check_epoch_records(members.get(EPOCH_RECORDS_FILE, b""))
        if epoch_records and not (
            isinstance(start, RunStart) and start.n_train == epoch_records[0].n
        ):
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} is of {epoch_records[0].n} examples, but the run is not"
            )
        fields = _parse_manifest(manifest)
        if isinstance(end, RunEnd) and end.status is not fields["status"]:
            raise ValueError(f"its run is {fields['status']}, but its end event says {end.status}")
    except BundleError:
        raise
    except (ValueError, OverflowError) as error:
        raise BundleError(f"{error}; export the run again") from error
    return Bundle(**fields, config=config, events=events, changes=changes, files=members, view=view)


# Unpacking -------------------------------------------------------------------------------


def _unpack_members(raw: bytes) -> dict[str, bytes]:
    """Return the members of a bundle; nothing is written to disk."""
    if len(raw) > MAX_BUNDLE_BYTES:
        raise BundleError(f"it has {len(raw):,} bytes, more than the {MAX_BUNDLE_BYTES:,} allowed")
    # The directory is checked before it is read, since it may be too long.
    end = raw.rfind(b"PK\x05\x06", max(0, len(raw) - _ZIP_END_RECORD.size - 0xFFFF))
    if not raw.startswith(b"PK") or end < 0 or end + _ZIP_END_RECORD.size > len(raw):
        raise BundleError(
            "it is no zip file, or it is cut off: choose a file made by exporting a run"
        )
    _, *_, entries, length, _, _ = _ZIP_END_RECORD.unpack_from(raw, end)
    is_zip64 = raw[max(0, end - 20) : end].startswith(b"PK\x06\x07")
    if entries > _MAX_FILES or length > _MAX_ZIP_DIRECTORY_BYTES or is_zip64:
        raise BundleError(f"it holds {entries} files, and a bundle has at most {len(MEMBERS) + 1}")
    members = {}
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as bundle:
            _check_directory(bundle.infolist())
            for info in bundle.infolist():
                with bundle.open(info) as member:
                    data = member.read(info.file_size + 1)  # no more than the directory announces
                if len(data) != info.file_size:
                    raise BundleError(
                        f"its file {info.filename} does not have the size that the zip directory "
                        "announces"
                    )
                members[info.filename] = data
    except BundleError:
        raise
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
            RuntimeError, NotImplementedError) as error:  # fmt: skip
        raise BundleError(f"it is damaged or no zip: {error}; export the run again") from error
    return members


def _check_directory(infos: list[zipfile.ZipInfo]) -> None:
    """Check the names, kinds and sizes of members before any is unpacked."""
    for info in infos:
        if problem := _member_problem(info):
            raise BundleError(f"its file {info.orig_filename[:80]!r} {problem}")
    names = [info.filename for info in infos]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise BundleError(f"it holds {min(duplicates)} more than once")
    required = [name for name in (MANIFEST_MEMBER, *MEMBERS) if name not in OPTIONAL_MEMBERS]
    if missing := [name for name in required if name not in names]:
        raise BundleError(f"it lacks {', '.join(missing)}: choose a file made by exporting a run")
    if (total := sum(info.file_size for info in infos)) > MAX_UNPACKED_BYTES:
        raise BundleError(
            f"it unpacks to {total:,} bytes, more than the {MAX_UNPACKED_BYTES:,} allowed"
        )


def _member_problem(info: zipfile.ZipInfo) -> str:
    """Return what is wrong with a member's entry in the zip directory; empty if nothing is."""
    name = info.orig_filename
    if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
        return "has a path outside the bundle"
    if name not in (MANIFEST_MEMBER, *MEMBERS):
        return f"does not belong in a bundle, which has {', '.join((MANIFEST_MEMBER, *MEMBERS))}"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 0x1:
        return "is encrypted: export it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "has an unknown compression method: export the run again"
    max_bytes = _MAX_MEMBER_BYTES.get(name, _MAX_OTHER_MEMBER_BYTES)
    if info.file_size > max_bytes:
        return f"has {info.file_size:,} bytes, more than the {max_bytes:,} allowed"
    return ""


def _check_format_and_checksums(manifest: Any, members: Mapping[str, bytes]) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != BUNDLE_FORMAT:
        raise BundleError(
            f"its {MANIFEST_MEMBER} does not describe a run: choose a file made by exporting a run"
        )
    version = manifest.get("version")
    if version != BUNDLE_VERSION or isinstance(version, bool):
        raise BundleError(
            f"its version is {str(version)[:20]}, but this Effcore reads version {BUNDLE_VERSION}: "
            "update Effcore"
        )
    listed = manifest.get("members")
    if not isinstance(listed, dict) or set(listed) != set(members):
        raise BundleError(f"its {MANIFEST_MEMBER} lists other files than the bundle holds")
    for name, data in members.items():
        if listed[name] != {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}:
            raise BundleError(
                f"its file {name} changed after export: its size or checksum differs; "
                "export the run again"
            )


# JSON members ----------------------------------------------------------------------------


def _parse_strict_json(name: str, raw: bytes) -> Any:
    """Parse JSON in UTF-8 without duplicate keys, non-finite numbers and oversized values."""
    try:
        data = json.loads(
            raw.decode("utf-8"),
            parse_constant=_refuse_nonfinite_constant,
            object_pairs_hook=_refuse_duplicate_keys,
        )
        _check_json_limits(data, 0)
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise BundleError(f"its {name} cannot be read: {reason}") from error
    return data


def _refuse_nonfinite_constant(text: str) -> None:
    raise ValueError(f"{text} is not allowed in JSON")


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key occurs twice")
    return data


def _check_json_limits(data: Any, depth: int) -> None:
    """Refuse values that no run holds, and texts that a database or a page cannot show."""
    if depth > _MAX_JSON_DEPTH:
        raise ValueError("nested too deep")
    match data:
        case dict():
            for item in (*data.keys(), *data.values()):
                _check_json_limits(item, depth + 1)
        case list():
            for item in data:
                _check_json_limits(item, depth + 1)
        case str():
            if len(data) > _MAX_TEXT_LENGTH:
                raise ValueError("a text is too long")
            if any(c < " " and c not in "\n\t" or "\ud800" <= c <= "\udfff" for c in data):
                raise ValueError(f"{data[:40]!r} holds characters that are not text")
        case int() | float():
            largest = _MAX_WHOLE_NUMBER if isinstance(data, int) else sys.float_info.max
            if not abs(data) <= largest:
                raise ValueError("a number is too large")


def _parse_manifest(data: Any) -> dict[str, Any]:
    """Return the fields of :class:`Bundle` that the manifest holds."""
    try:
        manifest = msgspec.convert(data, _Manifest)
    except msgspec.ValidationError as error:
        raise ValueError(f"its {MANIFEST_MEMBER} is damaged: {str(error)[:200]}") from error
    for run_id in (manifest.run_id, manifest.reference_id):
        if run_id is not None and not is_run_id(run_id):
            raise ValueError(f"its {MANIFEST_MEMBER} has {run_id[:40]!r} for a run's id")
    if not manifest.status.is_final:
        raise ValueError(f"its run is {manifest.status}: only a run that has ended can be imported")
    labels = manifest.labels
    return msgspec.structs.asdict(manifest) | {
        "labels": validated_labels(labels.name, labels.tags, labels.note)
    }


def _parse_config(raw: bytes) -> RunConfig:
    config = decode_record(RunConfig, json.dumps(_parse_strict_json(CONFIG_MEMBER, raw)))
    for field in ("task", "model", "selection", "update", "intensity", "optimizer", "precision",
                  "size"):  # fmt: skip
        _check_pattern(_ID_PATTERN, field, getattr(config, field))
    _check_pattern(_DEVICE_PATTERN, "device", config.device)
    for name in (*config.knobs, *config.data, *(change.name for change in config.changes)):
        _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
    _check_minimums(config)
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


def _check_minimums(record: Any) -> None:
    for name, smallest in _MINIMUMS.get(type(record), {}).items():
        value = getattr(record, name)
        if value is not None and not (math.isfinite(value) and value >= smallest):
            raise ValueError(
                f"its {type(record).__name__} has {name}={value}: expected at least {smallest:g}"
            )


def _parse_events(raw: bytes) -> dict[str, StoredRecord | KnobValues]:
    data = _parse_strict_json(EVENTS_MEMBER, raw)
    if not isinstance(data, dict):
        raise ValueError(f"its {EVENTS_MEMBER} is not a JSON object of events")
    if unknown := set(data) - set(EVENT_KINDS):
        raise ValueError(
            f"its {EVENTS_MEMBER} holds the unknown event {min(unknown)[:40]!r}: expected "
            f"{', '.join(EVENT_KINDS)}"
        )
    events: dict[str, StoredRecord | KnobValues] = {}
    for kind, event in data.items():
        if kind in _EVENTS_WITH_NONFINITE:
            event = _restore_nonfinite_numbers(event)
        if kind == "knobs":
            events[kind] = knobs = decode_knob_values(json.dumps(event))
            for name in knobs:
                _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", name)
        else:
            record = decode_record(_EVENT_TYPES[kind], json.dumps(event))
            _check_minimums(record)
            match record:
                case Energy():
                    _check_energy(record)
                case LossHistogram():
                    if (record.counts < 0).any() or not np.isfinite(record.edges).all():
                        raise ValueError(
                            "its histogram has negative counts, or edges that are not finite"
                        )
                case PhaseAttribution():
                    phases = [phase.phase for phase in record.phases]
                    if phases and phases != [*PHASES, NO_PHASE]:
                        raise ValueError("its energy by phase does not list the phases of a run")
                    for phase in record.phases:
                        _check_minimums(phase)
            events[kind] = record
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


def _check_energy(energy: Energy) -> None:
    """Check intervals, idle power and texts; charts would interpret markup in texts."""
    if energy.lo is not None and energy.hi is not None and energy.lo > energy.hi:
        raise ValueError(f"its energy has lo={energy.lo} above hi={energy.hi}")
    without_value = (EnergyQuality.ESTIMATED, EnergyQuality.UNAVAILABLE)
    if energy.joules is not None and energy.quality in without_value:
        raise ValueError(f"its energy is {energy.quality}, but has a value")
    for watts in energy.idle_w:
        if len(watts) != 3 or not all(map(math.isfinite, watts)) or list(watts) != sorted(watts):
            raise ValueError(
                f"its energy has {watts[:4]} for idle power: expected three rising numbers"
            )
    if len(energy.idle_s) not in (0, len(energy.idle_w)):
        raise ValueError(
            f"its energy has {len(energy.idle_s)} durations for {len(energy.idle_w)} idle readings"
        )
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in energy.idle_s):
        raise ValueError("its energy has an idle reading whose duration is negative")
    texts = (energy.source, energy.scope, energy.card, energy.driver, energy.left_out)
    for text in (*texts, energy.device_uuid or "", *energy.notes):
        if len(text) > 1000 or "<" in text or ">" in text:
            raise ValueError(
                f"its energy has {text[:40]!r}: expected plain text of up to 1000 characters"
            )


def _parse_knob_changes(raw: bytes) -> tuple[KnobChange, ...]:
    try:
        changes = decode_knob_changes(_parse_strict_json(CHANGES_MEMBER, raw))
    except msgspec.ValidationError as error:
        raise ValueError(
            f"its {CHANGES_MEMBER} is not a list of knob changes, each with step, name and "
            f"number: {error}"
        ) from error
    for change in changes:
        if change.step < 0:
            raise ValueError(f"its {CHANGES_MEMBER} has a knob change at a negative step")
        _check_pattern(_KNOB_NAME_PATTERN, "name of a knob", change.name)
    return changes


# Binary members --------------------------------------------------------------------------


def _check_table(name: str, raw: bytes) -> None:
    width = 8 * len(TABLE_COLUMNS[name])
    if len(raw) % width:
        raise ValueError(
            f"its {name} has {len(raw)} bytes: expected complete rows of {width} bytes"
        )
    table = parse_table(raw, name)
    for column in _NONDECREASING_COLUMNS[name]:
        values = table[TABLE_COLUMNS[name].index(column)]
        if not (np.isfinite(values).all() and (np.diff(values, prepend=0.0) >= 0).all()):
            raise ValueError(
                f"its {name} has a column {column} that falls, is negative or is not finite"
            )
    if name == POWER_FILE and (table[1:] < 0).any():
        raise ValueError(f"its {name} has negative power or energy")


def _check_decisions(raw: bytes) -> None:
    decisions, end = parse_decisions(raw)
    if end != len(raw):
        raise ValueError(f"its {DECISIONS_FILE} is damaged after {end} of {len(raw)} bytes")
    for decision in decisions:
        if min(decision.step, decision.epoch_index, decision.n_drawn) < 0:
            raise ValueError(f"its {DECISIONS_FILE} has negative counts")
        if decision.n_drawn > 8 * decision.drawn_bits.size:
            raise ValueError(f"its {DECISIONS_FILE} draws more examples than the run has")


def check_epoch_records(raw: bytes) -> list[EpochRecord]:
    """Return the epoch records in bytes from a bundle.

    Raises:
        ValueError: The bytes are no epoch records as a run writes them.
    """
    records, end = parse_epoch_records(raw)
    if end != len(raw):
        raise ValueError(f"its {EPOCH_RECORDS_FILE} is damaged after {end} of {len(raw)} bytes")
    step, epoch_index = 0, 0
    for record in records:
        if record.n != records[0].n:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} has records of {records[0].n} and of {record.n} examples"
            )
        if record.step < step or record.epoch_index < epoch_index:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} has records out of order, or a negative step or epoch"
            )
        if not 0 <= record.visited <= record.n:
            raise ValueError(
                f"its {EPOCH_RECORDS_FILE} considers {record.visited} of {record.n} examples"
            )
        if record.losses_N is not None and (record.losses_N < 0).any():
            raise ValueError(f"its {EPOCH_RECORDS_FILE} has a negative loss")
        step, epoch_index = record.step, record.epoch_index
    return records


def _parse_view(raw: bytes) -> ViewEvent:
    """Parse a view after checking the headers, types and sizes of its arrays."""
    position = n_arrays = 0
    while position < len(raw):
        # A regular expression, since NumPy evaluates the header.
        header = _NPY_HEADER_PATTERN.match(raw, position)
        if header is None:
            raise ValueError("its view holds an array that is neither uint8 nor float32")
        shape = [int(size) for size in header[2].decode().replace(" ", "").split(",") if size]
        position = header.end() + math.prod(shape) * (1 if header[1] == b"|u1" else 4)
        if position > len(raw):
            raise ValueError("its view announces larger arrays than it holds")
        n_arrays += 1
    if n_arrays > 4 * _MAX_VIEW_ITEMS:
        raise ValueError("its view holds too many arrays")
    try:
        view = parse_view(raw)
    except (OverflowError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(f"its view is damaged: {error}") from error
    if view.step < 0 or len(view.items) > _MAX_VIEW_ITEMS:
        raise ValueError("its view holds too many items, or has a negative step")
    for name, item in view.items.items():
        if problem := _view_item_problem(item):
            raise ValueError(f"its view {name[:40]!r} {problem}")
    return view


def _view_item_problem(item: Any) -> str:
    if isinstance(item, ShadedText):
        valid = item.shade_T.dtype == item.dim_T.dtype == np.uint8
        return "" if valid else "has shades that are not uint8"
    if isinstance(item, Scatter):
        points = item.xy_N2.dtype == np.float32 and item.xy_N2.shape == (len(item.group_N), 2)
        marks = item.group_N.dtype == item.state_N.dtype == np.uint8
        if not (points and marks and np.isfinite(item.xy_N2).all()):
            return "is not a scatter plot of finite points"
        all_named = not len(item.group_N) or int(item.group_N.max()) < len(item.groups)
        return "" if all_named else "has points of a group without a name"
    is_rgb = item.ndim == 3 and item.shape[2] == 3
    return "" if item.dtype == np.uint8 and (item.ndim == 2 or is_rgb) else "is not a picture"


# Storage ---------------------------------------------------------------------------------


def import_run(store: Store, bundle: Bundle, *, fresh_id: bool = False) -> str:
    """Store the run of a bundle, under a new id if ``fresh_id``, and return its id.

    Raises:
        RunIdTakenError: The id is taken, and ``fresh_id`` is false.
        StoreError: The store cannot be written; no part of the run is then stored.
    """
    run_id = new_run_id() if fresh_id else bundle.run_id
    folder = store.home / "runs" / run_id
    with translate_storage_errors("the store", f"runs/{run_id}"), ExitStack() as undo:
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise RunIdTakenError(
                f"run {run_id} is in this store already, or in its trash: import this "
                "one under a fresh id"
            ) from error
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        for name, data in ({PHASES_FILE: b""} | dict(bundle.files)).items():
            (folder / name).write_bytes(data)
        if bundle.view is not None:
            save_view(folder, bundle.view)
        _insert_database_rows(store, run_id, bundle)
        undo.pop_all()
    return run_id


def _insert_database_rows(store: Store, run_id: str, bundle: Bundle) -> None:
    # An imported run refers to imported runs only.
    is_imported = "SELECT 1 FROM imports WHERE id = ?"
    reference_id = bundle.reference_id
    run_row = {
        "run_id": run_id,
        "created_unix": bundle.created_unix,
        "config": encode_record(bundle.config),
        "status": bundle.status,
        "progress": bundle.progress,
        "exploratory": bundle.exploratory,
        "reference_id": reference_id if store.query(is_imported, reference_id) else None,
    }
    events = dict(bundle.events)
    if isinstance(energy := events.get("energy"), Energy):
        events["energy"] = energy_of_other_machine(energy)
    labels = bundle.labels
    with store.write_transaction() as connection:
        columns, marks = ", ".join(run_row), ", ".join("?" * len(run_row))
        connection.execute(f"INSERT INTO runs ({columns}) VALUES ({marks})", (*run_row.values(),))
        connection.executemany(
            "INSERT INTO events VALUES (?, ?, ?)",
            [(run_id, kind, encode_record(event)) for kind, event in events.items()],
        )
        connection.executemany(
            "INSERT INTO changes (run_id, step, name, value) VALUES (?, ?, ?, ?)",
            [(run_id, change.step, change.name, change.value) for change in bundle.changes],
        )
        connection.execute("INSERT INTO imports VALUES (?, ?)", (run_id, time.time()))
        if any(labels):
            connection.execute(
                "INSERT INTO labels VALUES (?, ?, ?, ?)",
                (run_id, labels.name, "\n".join(labels.tags), labels.note),
            )


def energy_of_other_machine(energy: Energy) -> Energy:
    """Return the energy of an imported run, labelled as another machine's; idempotent."""
    measured = energy.quality is EnergyQuality.MEASURED
    note = f"{energy.quality.value} on another machine, and not checked on this one"
    is_labelled = energy.scope.startswith(_OTHER_MACHINE_PREFIX)
    return dataclasses.replace(
        energy,
        quality=EnergyQuality.RECORDED if measured else energy.quality,
        source=_OTHER_MACHINE_PREFIX + energy.source.removeprefix(_OTHER_MACHINE_PREFIX),
        scope=_OTHER_MACHINE_PREFIX + energy.scope.removeprefix(_OTHER_MACHINE_PREFIX),
        notes=energy.notes if is_labelled else (*energy.notes, note),
    )
