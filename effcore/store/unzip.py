"""The members of a bundle, out of a zip that may have been made to do harm.

Nothing is written to disk: members are read into memory, by the names that a bundle may have
and up to the sizes that they may have, whatever the zip says of itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

from effcore.store.bundle import (
    CHANGES,
    CONFIG,
    EVENTS,
    FORMAT,
    MANIFEST,
    MEMBERS,
    OPTIONAL,
    VERSION,
)
from effcore.store.files import VIEW

_MB: Final = 1 << 20
#: Largest bundle, and largest sum of its members once unpacked.
MOST_BYTES, MOST_UNPACKED = 200 * _MB, 256 * _MB
#: Largest member, by name; a table holds a million steps and more.
_MOST: Final = {MANIFEST: _MB, CONFIG: _MB, EVENTS: _MB, CHANGES: 16 * _MB, VIEW: 32 * _MB}
_MOST_OTHER: Final = 128 * _MB
#: End of a zip's list of members: signature, four numbers of disks and entries, its length.
_END: Final = struct.Struct("<4s4H2IH")
#: Most files, and most bytes of their list: some more than needed, so that they are named.
_MOST_FILES, _MOST_LIST = 64, 16 * 1024
#: JSON as deep, texts and whole numbers as large as any that a run holds.
_DEEPEST, _LONGEST, _LARGEST = 16, 20_000, 2**53
#: What Python's reader of zips raises over one that is damaged.
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
                  RuntimeError, NotImplementedError)  # fmt: skip


class BundleError(ValueError):
    """A file that is no bundle, or one that is not taken in; the message says why."""


def unzip(raw: bytes) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
    """Return a bundle's manifest and its other members, their sizes and checksums right.

    Raises:
        BundleError: It is no zip, holds what a bundle does not, or is damaged.
    """
    if len(raw) > MOST_BYTES:
        raise BundleError(f"it has {len(raw):,} bytes, and {MOST_BYTES:,} are allowed")
    _check_list(raw)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as bundle:
            _check_members(bundle.infolist())
            found = {info.filename: _read(bundle, info) for info in bundle.infolist()}
    except BundleError:
        raise
    except _BROKEN as error:
        raise BundleError(f"it is damaged or no zip: {error}; export the run again") from error
    manifest = strict_json(MANIFEST, found.pop(MANIFEST))
    _check_manifest(manifest, found)
    return manifest, found


def _check_list(raw: bytes) -> None:
    """Refuse a list of members that would take long to read, before it is read."""
    place = raw.rfind(b"PK\x05\x06", max(0, len(raw) - _END.size - 0xFFFF))
    if not raw.startswith(b"PK") or place < 0 or place + _END.size > len(raw):
        raise BundleError("it is no zip, or its end is missing: choose a file made by exporting")
    _, *_, entries, length, _, _ = _END.unpack_from(raw, place)
    large = raw[max(0, place - 20) : place].startswith(b"PK\x06\x07")  # its true list is elsewhere
    if entries > _MOST_FILES or length > _MOST_LIST or large:
        raise BundleError(f"it holds {entries} files, and a bundle {len(MEMBERS) + 1} at most")


def _check_members(infos: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    for info in infos:
        if problem := _problem(info):
            raise BundleError(f"its file {info.orig_filename[:80]!r} {problem}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise BundleError(f"it holds {min(twice)} twice")
    lacking = [name for name in (MANIFEST, *MEMBERS) if name not in {*names, *OPTIONAL}]
    if lacking:
        raise BundleError(f"it lacks {', '.join(lacking)}: choose a file made by exporting a run")
    if (total := sum(info.file_size for info in infos)) > MOST_UNPACKED:
        raise BundleError(f"it unpacks to {total:,} bytes, and {MOST_UNPACKED:,} are allowed")


def _problem(info: zipfile.ZipInfo) -> str:
    """Return what is wrong with a member by what the zip says of it; else nothing."""
    name = info.orig_filename
    if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
        return "leads out of the bundle"
    if name not in (MANIFEST, *MEMBERS):
        return f"does not belong in a bundle, which holds {', '.join((MANIFEST, *MEMBERS))}"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 0x1:
        return "is encrypted: export it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that is not read here"
    most = _MOST.get(name, _MOST_OTHER)
    if info.file_size > most:
        return f"has {info.file_size:,} bytes, and {most:,} are allowed"
    return ""


def _read(bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member of which no more is unpacked than was announced."""
    with bundle.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise BundleError(f"its file {info.filename} has another size than it says")
    return data


def _check_manifest(manifest: Any, found: Mapping[str, bytes]) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"its {MANIFEST} is not that of a run: choose a file made by exporting")
    version = manifest.get("version")
    if version != VERSION or isinstance(version, bool):
        raise BundleError(
            f"its version is {str(version)[:20]}, and this Effcore reads version {VERSION}: "
            "update Effcore"
        )
    about = manifest.get("members")
    if not isinstance(about, dict) or set(about) != set(found):
        raise BundleError(f"its {MANIFEST} lists other files than it holds")
    for name, data in found.items():
        said = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if about[name] != said:
            raise BundleError(
                f"its file {name} is not what was exported: size or checksum differ; "
                "export the run again"
            )


def strict_json(name: str, raw: bytes) -> Any:
    """Return what a JSON text says, where it is UTF-8, of modest depth, and each key once.

    Raises:
        BundleError: It is not, or a number is none or too large.
    """
    try:
        data = json.loads(raw.decode("utf-8"), parse_constant=_no_number, object_pairs_hook=_once)
        _check_plain(data, 0)
    except (ValueError, RecursionError) as error:
        why = "too deep" if isinstance(error, RecursionError) else str(error)
        raise BundleError(f"its {name} cannot be read: {why}") from error
    return data


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _check_plain(data: Any, depth: int) -> None:
    """Refuse what no run holds, and what a database or a page would stumble over."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if isinstance(data, dict):
        for key, value in data.items():
            _check_plain(key, depth + 1)
            _check_plain(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            _check_plain(value, depth + 1)
    elif isinstance(data, str):
        if len(data) > _LONGEST:
            raise ValueError("a text is too long")
        if any(c < " " and c not in "\n\t" or "\ud800" <= c <= "\udfff" for c in data):
            raise ValueError(f"{data[:40]!r} holds what is no text")
    elif isinstance(data, int | float) and not abs(data) <= _most(data):
        raise ValueError("a number is too large")


def _most(number: float) -> float:
    return _LARGEST if isinstance(number, int) else sys.float_info.max
