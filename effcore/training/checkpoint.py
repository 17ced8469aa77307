"""Checkpoints: the whole state of a run between two steps, as arrays and JSON, never pickle.

    magic bytes · CRC-32 of all that follows · length of the header · header (JSON) · arrays

A state is a tree of dicts and lists; its leaves are arrays, numbers, strings, booleans or
``None``. In the header an array is represented by its index among the arrays that follow.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = dict[str, Any]
Array = NDArray[Any]

_MAGIC_BYTES = b"EFFCKPT1"
_PREAMBLE = struct.Struct("<8sIQ")
#: Key of an array's index in the header.
_ARRAY_KEY = "@array"
#: Types that an array may have, little-endian.
_ARRAY_TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


class CheckpointError(ValueError):
    """A checkpoint that a run cannot resume from; the message says why."""


@dataclass(frozen=True)
class Checkpoint:
    """State of a run between two steps; a run resumed from it equals an uninterrupted one.

    Attributes:
        step: Steps taken so far.
        seconds: The run clock, s.
        state: Everything the training depends on, as plain arrays and values.
        origin: Versions and hardware that the numbers depend on, by name.
    """

    step: int
    seconds: float
    state: State
    origin: Mapping[str, str] = field(default_factory=dict)


def pack_state(tree: State) -> list[bytes | memoryview]:
    """Return the bytes of a state, in parts to write one after the other.

    Raises:
        CheckpointError: A leaf has a type that a checkpoint cannot store.
    """
    arrays: list[Array] = []
    header = _extract_arrays(tree, arrays)
    kinds = [[array.dtype.name, list(array.shape)] for array in arrays]
    text = json.dumps({"tree": header, "arrays": kinds}, default=_python_scalar).encode()
    parts: list[bytes | memoryview] = [text, *(_array_bytes(array) for array in arrays)]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [_PREAMBLE.pack(_MAGIC_BYTES, checksum, len(text)), *parts]


def unpack_state(data: bytes) -> State:
    """Return the state from the bytes of :func:`pack_state`; its arrays are copies.

    Raises:
        CheckpointError: The bytes are truncated, damaged or of another format.
    """
    try:
        magic, checksum, length = _PREAMBLE.unpack_from(data)
    except struct.error:
        raise CheckpointError("it is truncated") from None
    if magic != _MAGIC_BYTES:
        raise CheckpointError("it is not a checkpoint of this version of Effcore")
    body = memoryview(data)[_PREAMBLE.size :]
    if zlib.crc32(body) != checksum:
        raise CheckpointError("it is damaged: its checksum is wrong")
    try:
        header = json.loads(bytes(body[:length]))
        arrays = _read_arrays(header["arrays"], body[length:])
        tree: State = _insert_arrays(header["tree"], arrays)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"it is damaged: {error!r}") from error
    return tree


def _extract_arrays(node: Any, arrays: list[Array]) -> Any:
    if isinstance(node, np.ndarray):
        arrays.append(node)
        return {_ARRAY_KEY: len(arrays) - 1}
    if isinstance(node, Mapping):
        return {name: _extract_arrays(child, arrays) for name, child in node.items()}
    if isinstance(node, list | tuple):
        return [_extract_arrays(child, arrays) for child in node]
    return node


def _insert_arrays(node: Any, arrays: Sequence[Array]) -> Any:
    if isinstance(node, dict):
        if node.keys() == {_ARRAY_KEY}:
            return arrays[node[_ARRAY_KEY]]
        return {name: _insert_arrays(child, arrays) for name, child in node.items()}
    if isinstance(node, list):
        return [_insert_arrays(child, arrays) for child in node]
    return node


def _python_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise CheckpointError(f"a checkpoint cannot store a {type(value).__name__}")


def _array_bytes(array: Array) -> memoryview:
    if array.dtype.name not in _ARRAY_TYPES:
        raise CheckpointError(f"a checkpoint cannot store an array of {array.dtype}")
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).view(np.uint8).data


def _read_arrays(kinds: Any, body: memoryview) -> list[Array]:
    arrays, start = [], 0
    for name, shape in kinds:
        if name not in _ARRAY_TYPES:
            raise ValueError(f"an array of {name!r}")
        kind = np.dtype(name).newbyteorder("<")
        if any(length < 0 for length in shape):
            raise ValueError(f"an array of shape {shape}")
        count = math.prod(shape)
        raw = np.frombuffer(body, dtype=kind, count=count, offset=start)
        arrays.append(raw.astype(name).reshape(shape))
        start += raw.nbytes
    if start != len(body):
        raise ValueError(f"{len(body) - start} extra bytes")
    return arrays
