"""The whole state of a run between two steps, and its bytes: arrays and JSON, never pickle.

    mark · CRC-32 of all that follows · length of the head · head (JSON) · arrays

A state is a tree of dicts by name and lists whose leaves are arrays, numbers, texts, truth
values or nothing. In the head an array is its place among the arrays that follow.
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
#: The key of what stands in the head for an array.
_ARRAY_KEY = "@array"
#: Types that an array may have, little-endian.
_ARRAY_TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


class CheckpointError(ValueError):
    """A checkpoint that a run cannot go on from; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A run between two steps; training goes on from it as if it had never been left.

    Attributes:
        step: Steps taken by then.
        seconds: The run clock by then.
        state: Everything the training depends on, as plain arrays and values.
        origin: What its numbers depend on besides the configuration, by name.
    """

    step: int
    seconds: float
    state: State
    origin: Mapping[str, str] = field(default_factory=dict)


def pack_state(tree: State) -> list[bytes | memoryview]:
    """Return the bytes of a tree, in parts to be written one after the other.

    Raises:
        CheckpointError: A leaf is of a kind that cannot be kept.
    """
    arrays: list[Array] = []
    head = _extract_arrays(tree, arrays)
    kinds = [[array.dtype.name, list(array.shape)] for array in arrays]
    text = json.dumps({"tree": head, "arrays": kinds}, default=_python_scalar).encode()
    parts: list[bytes | memoryview] = [text, *(_array_bytes(array) for array in arrays)]
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [_PREAMBLE.pack(_MAGIC_BYTES, checksum, len(text)), *parts]


def unpack_state(data: bytes) -> State:
    """Rebuild a tree from the bytes of :func:`pack_state`; its arrays are copies.

    Raises:
        CheckpointError: The bytes are not as written.
    """
    try:
        mark, checksum, length = _PREAMBLE.unpack_from(data)
    except struct.error:
        raise CheckpointError("it is cut short") from None
    if mark != _MAGIC_BYTES:
        raise CheckpointError("it is no checkpoint, or one of another version of Effcore")
    body = memoryview(data)[_PREAMBLE.size :]
    if zlib.crc32(body) != checksum:
        raise CheckpointError("its bytes are not as they were written")
    try:
        head = json.loads(bytes(body[:length]))
        arrays = _read_arrays(head["arrays"], body[length:])
        tree: State = _insert_arrays(head["tree"], arrays)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise CheckpointError(f"it is not as written: {error!r}") from error
    return tree


def _extract_arrays(node: Any, arrays: list[Array]) -> Any:
    if isinstance(node, np.ndarray):
        arrays.append(node)
        return {_ARRAY_KEY: len(arrays) - 1}
    if isinstance(node, Mapping):
        return {name: _extract_arrays(below, arrays) for name, below in node.items()}
    if isinstance(node, list | tuple):
        return [_extract_arrays(below, arrays) for below in node]
    return node


def _insert_arrays(node: Any, arrays: Sequence[Array]) -> Any:
    if isinstance(node, dict):
        if node.keys() == {_ARRAY_KEY}:
            return arrays[node[_ARRAY_KEY]]
        return {name: _insert_arrays(below, arrays) for name, below in node.items()}
    if isinstance(node, list):
        return [_insert_arrays(below, arrays) for below in node]
    return node


def _python_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise CheckpointError(f"cannot keep a {type(value).__name__} in a checkpoint")


def _array_bytes(array: Array) -> memoryview:
    if array.dtype.name not in _ARRAY_TYPES:
        raise CheckpointError(f"cannot keep an array of {array.dtype} in a checkpoint")
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.astype(flat.dtype.newbyteorder("<"), copy=False).view(np.uint8).data


def _read_arrays(kinds: Any, body: memoryview) -> list[Array]:
    found, start = [], 0
    for name, shape in kinds:
        if name not in _ARRAY_TYPES:
            raise ValueError(f"an array of {name!r}")
        kind = np.dtype(name).newbyteorder("<")
        if any(length < 0 for length in shape):
            raise ValueError(f"an array of shape {shape}")
        count = math.prod(shape)
        raw = np.frombuffer(body, dtype=kind, count=count, offset=start)
        found.append(raw.astype(name).reshape(shape))
        start += raw.nbytes
    if start != len(body):
        raise ValueError(f"{len(body) - start} bytes too many")
    return found
