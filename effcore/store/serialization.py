"""Conversion of records to JSON text and back, with types and shapes checked on reading.

The format is JSON, never pickle, so that reading a store cannot run code. NaN and infinities use
Python's extension of JSON.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec
import numpy as np

from effcore.records import (
    Energy,
    KnobChange,
    KnobValue,
    LossHistogram,
    RunConfig,
    RunEnd,
    RunStart,
)
from effcore.records.attribution import AttributedPhaseEnergy, PhaseAttribution
from effcore.records.resume_history import ResumeHistory

KnobValues = Mapping[str, KnobValue | None]
StoredRecord = (
    RunConfig | RunStart | RunEnd | Energy | LossHistogram | PhaseAttribution | ResumeHistory
)
R = TypeVar(
    "R", RunConfig, RunStart, RunEnd, Energy, LossHistogram, PhaseAttribution, ResumeHistory
)

#: Field types by record type.
_FIELD_TYPES: Mapping[Any, dict[str, Any]] = {
    cls: get_type_hints(cls) for cls in (*get_args(StoredRecord), AttributedPhaseEnergy)
}
#: Fields that have a default, but that every version wrote.
_ALWAYS_WRITTEN = ("changes", "notes", "phases")
_REQUIRED_FIELDS = {
    cls: {
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is parameter.empty or name in _ALWAYS_WRITTEN
    }
    for cls in _FIELD_TYPES
}


def encode_record(record: StoredRecord | KnobValues) -> str:
    """Return a record, or knob values by name, as one line of JSON."""
    if isinstance(record, Mapping):
        fields = dict(record)
    else:
        fields = {name: getattr(record, name) for name in _FIELD_TYPES[type(record)]}
    return json.dumps(fields, default=_json_default)


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """Return a configuration as plain JSON types."""
    data: dict[str, Any] = json.loads(encode_record(config))
    return data


def decode_record(cls: type[R], text: str) -> R:
    """Rebuild a record of type ``cls`` from :func:`encode_record`.

    Fields that earlier versions did not write get the value that those versions used.

    Raises:
        ValueError: The text is not JSON, a field is missing or unknown, or a value has
            the wrong type or shape.
    """
    try:
        data = msgspec.convert(json.loads(text), dict[str, Any])
        if cls is RunConfig and "size" not in data and str(data.get("model")).endswith("-small"):
            # The small size was once a separate model.
            data |= {"model": data["model"].removesuffix("-small"), "size": "small"}
        record: R = _build_record(cls, data)
        if isinstance(record, LossHistogram):
            edges, counts = record.edges.shape, record.counts.shape
            if edges != (counts[0] + 1,):
                raise ValueError(f"it has edges of shape {edges} for counts of shape {counts}")
    except ValueError as error:
        raise ValueError(f"its {cls.__name__} is damaged: {error}") from error
    return record


def decode_optional_record(cls: type[R], text: str | None) -> R | None:
    """Rebuild a record from :func:`encode_record`; ``None`` where it was not written."""
    return None if text is None else decode_record(cls, text)


def decode_knob_values(text: str) -> KnobValues:
    """Rebuild knob values from :func:`encode_record`.

    Raises:
        ValueError: The text is no JSON object of numbers and nulls.
    """
    try:
        return msgspec.convert(json.loads(text), dict[str, KnobValue | None])
    except msgspec.ValidationError as error:
        raise ValueError(
            f"its knob values are not numbers by name: {text[:80]!r} ({error})"
        ) from error


def decode_knob_changes(data: Any) -> tuple[KnobChange, ...]:
    """Return the knob changes in a JSON list of steps, names and values.

    Raises:
        msgspec.ValidationError: The data is no such list.
    """
    changes = msgspec.convert(data, list[tuple[int, str, KnobValue]])
    return tuple(KnobChange(*change) for change in changes)


def _json_default(value: Any) -> Any:
    """Convert NumPy numbers and arrays, mappings and nested records to JSON types."""
    match value:
        case KnobChange():
            return [value.step, value.name, value.value]
        case AttributedPhaseEnergy():
            return asdict(value)
        case Mapping():
            return dict(value)
        case np.ndarray() | np.generic():
            return value.tolist()
    raise TypeError(f"cannot store a {type(value).__name__}")


def _build_record(cls: type[Any], data: Mapping[str, Any]) -> Any:
    """Build a record from a JSON object of its fields."""
    types = _FIELD_TYPES[cls]
    if missing := _REQUIRED_FIELDS[cls] - data.keys():
        raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    if unknown := data.keys() - types.keys():
        raise ValueError(f"it has the unknown field {min(unknown)[:40]!r}")
    fields = {}
    for name, value in data.items():
        try:
            fields[name] = _convert_field(types[name], value)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"it has {name}={repr(value)[:80]}: {error}") from error
    return cls(**fields)


def _convert_field(field_type: Any, value: Any) -> Any:
    match get_args(field_type)[:1]:
        case (item_type,) if item_type is KnobChange:
            return decode_knob_changes(value)
        case (item_type,) if item_type is AttributedPhaseEnergy:
            items = msgspec.convert(value, list[dict[str, Any]])
            return tuple(_build_record(item_type, item) for item in items)
    converted = msgspec.convert(value, field_type, dec_hook=_array_from_list)
    # An integer in place of a float stays one, as the text of the record and the fingerprint of
    # a configuration depend on it.
    return value if isinstance(value, int) else converted


def _array_from_list(array_type: Any, values: Any) -> Any:
    """Convert a list of numbers to an array of an ``NDArray`` type."""
    number_type = get_args(get_args(array_type)[1])[0]
    numbers = msgspec.convert(values, list[int] if number_type is np.int64 else list[float])
    return np.array(numbers, dtype=number_type)
