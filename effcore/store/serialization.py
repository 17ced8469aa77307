"""Conversion of records to JSON text and back, with types and shapes checked on reading.

The format is JSON, never pickle, so that reading a store cannot run code. NaN and infinities use
Python's extension of JSON.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from effcore.records import (
    Energy,
    EnergyQuality,
    KnobChange,
    KnobValue,
    LossHistogram,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
)
from effcore.records.attribution import AttributedPhaseEnergy, PhaseAttribution
from effcore.records.resume_history import ResumeHistory
from effcore.store.config_serialization import config_from_dict, config_to_dict

KnobValues = Mapping[str, KnobValue | None]
StoredRecord = (
    RunConfig | RunStart | RunEnd | Energy | LossHistogram | PhaseAttribution | ResumeHistory
)
R = TypeVar(
    "R", RunConfig, RunStart, RunEnd, Energy, LossHistogram, PhaseAttribution, ResumeHistory
)


def encode_record(record: StoredRecord) -> str:
    """Return a record as one line of JSON."""
    if isinstance(record, RunConfig):
        data = config_to_dict(record)
    else:
        data = {name: getattr(record, name) for name in _FIELD_TYPES[type(record)]}
    return json.dumps(data, default=_json_default)


def decode_record(cls: type[R], text: str) -> R:
    """Rebuild a record of type ``cls`` from :func:`encode_record`.

    Raises:
        ValueError: The text is not JSON, a field is missing or unknown, or a value has
            the wrong type or shape.
    """
    try:
        record: R = _BUILDER_BY_RECORD_TYPE[cls](json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its {cls.__name__} is damaged: {error!r}") from error
    field = _mismatched_field(record)
    if field is not None:
        raise ValueError(f"its {cls.__name__} has {field}={getattr(record, field)!r}")
    return record


def decode_optional_record(cls: type[R], text: str | None) -> R | None:
    """Rebuild a record from :func:`encode_record`; ``None`` where it was not written."""
    return None if text is None else decode_record(cls, text)


def encode_knob_values(knobs: KnobValues) -> str:
    """Return knob values by name as one line of JSON."""
    return json.dumps(dict(knobs), default=_json_default)


def encode_record_or_knobs(value: StoredRecord | KnobValues) -> str:
    """Return a record or knob values as the JSON text that the store keeps."""
    return encode_knob_values(value) if isinstance(value, Mapping) else encode_record(value)


def decode_knob_values(text: str) -> KnobValues:
    """Rebuild knob values from :func:`encode_knob_values`.

    Raises:
        ValueError: The text is no JSON object of numbers and nulls.
    """
    knobs: KnobValues = json.loads(text)
    if not _fits_annotation(knobs, KnobValues):
        raise ValueError(f"its knob values are not numbers by name: {text[:80]!r}")
    return knobs


def _json_default(value: Any) -> Any:
    """Convert NumPy numbers and arrays, and nested records, to JSON types."""
    if isinstance(value, AttributedPhaseEnergy):
        return asdict(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"cannot store a {type(value).__name__}")


def _build_energy(data: dict[str, Any]) -> Energy:
    idle_w = tuple(tuple(ends) for ends in data.get("idle_w", ()))
    lists = {"notes": tuple(data["notes"]), "idle_w": idle_w}
    lists["idle_s"] = tuple(data.get("idle_s", ()))
    return Energy(**data | {"quality": EnergyQuality(data["quality"])} | lists)


def _build_run_end(data: dict[str, Any]) -> RunEnd:
    return RunEnd(**data | {"status": RunStatus(data["status"])})


def _build_attribution(data: dict[str, Any]) -> PhaseAttribution:
    phases = tuple(AttributedPhaseEnergy(**phase) for phase in data["phases"])
    return PhaseAttribution(**data | {"phases": phases, "notes": tuple(data["notes"])})


def _build_resume_history(data: dict[str, Any]) -> ResumeHistory:
    return ResumeHistory(**{name: tuple(values) for name, values in data.items()})


def _build_loss_histogram(data: dict[str, Any]) -> LossHistogram:
    edges = np.array(data["edges"], dtype=np.float64)
    counts = np.array(data["counts"], dtype=np.int64)
    if counts.ndim != 1 or edges.shape != (counts.size + 1,):
        raise ValueError(f"edges of shape {edges.shape} for counts of shape {counts.shape}")
    return LossHistogram(**data | {"edges": edges, "counts": counts})


_BUILDER_BY_RECORD_TYPE: Mapping[type[StoredRecord], Callable[[dict[str, Any]], Any]] = {
    RunConfig: config_from_dict,
    RunStart: lambda data: RunStart(**data),
    RunEnd: _build_run_end,
    Energy: _build_energy,
    LossHistogram: _build_loss_histogram,
    PhaseAttribution: _build_attribution,
    ResumeHistory: _build_resume_history,
}


#: Field types by record type, checked on reading.
_FIELD_TYPES: Mapping[Any, dict[str, Any]] = {
    cls: get_type_hints(cls)
    for cls in (*_BUILDER_BY_RECORD_TYPE, KnobChange, AttributedPhaseEnergy)
}


def _mismatched_field(record: Any) -> str | None:
    """Return the first field whose value does not fit its annotation."""
    for name, hint in _FIELD_TYPES[type(record)].items():
        if not _fits_annotation(getattr(record, name), hint):
            return name
    return None


def _fits_annotation(value: Any, annotation: Any) -> bool:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_fits_annotation(value, arg) for arg in args)
    if origin is tuple:  # always of the form tuple[X, ...]
        return isinstance(value, tuple) and all(_fits_annotation(item, args[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(
            isinstance(key, str) and _fits_annotation(item, args[1]) for key, item in value.items()
        )
    if isinstance(value, bool):  # bool is a subclass of int in Python, and not a number here
        return annotation is bool
    if not isinstance(value, (int, float) if annotation is float else origin or annotation):
        return False
    return not is_dataclass(value) or _mismatched_field(value) is None
