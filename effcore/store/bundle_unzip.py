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
    BUNDLE_FORMAT,
    BUNDLE_VERSION,
    CHANGES_MEMBER,
    CONFIG_MEMBER,
    EVENTS_MEMBER,
    MANIFEST_MEMBER,
    MEMBERS,
    OPTIONAL_MEMBERS,
)
from effcore.store.run_files import VIEW_FILE

_MB: Final = 1 << 20
#: Largest bundle, and largest sum of its members once unpacked.
MAX_BUNDLE_BYTES, MAX_UNPACKED_BYTES = 200 * _MB, 256 * _MB
#: Largest member, by name; a table holds a million steps and more.
_MAX_MEMBER_BYTES: Final = {
    MANIFEST_MEMBER: _MB,
    CONFIG_MEMBER: _MB,
    EVENTS_MEMBER: _MB,
    CHANGES_MEMBER: 16 * _MB,
    VIEW_FILE: 32 * _MB,
}
_MAX_OTHER_MEMBER_BYTES: Final = 128 * _MB
#: End of a zip's list of members: signature, four numbers of disks and entries, its length.
_ZIP_END_RECORD: Final = struct.Struct("<4s4H2IH")
#: Most files, and most bytes of their list: some more than needed, so that they are named.
_MAX_FILES, _MAX_ZIP_DIRECTORY_BYTES = 64, 16 * 1024
#: JSON as deep, texts and whole numbers as large as any that a run holds.
_MAX_JSON_DEPTH, _MAX_TEXT_LENGTH, _MAX_WHOLE_NUMBER = 16, 20_000, 2**53
#: What Python's reader of zips raises over one that is damaged.
_DAMAGED_ZIP_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)


class BundleError(ValueError):
    """A file that is no bundle, or one that is not taken in; the message says why."""


def read_bundle_members(raw: bytes) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
    """Return a bundle's manifest and its other members, their sizes and checksums right.

    Raises:
        BundleError: It is no zip, holds what a bundle does not, or is damaged.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise BundleError(f"it has {len(raw):,} bytes, and {MAX_BUNDLE_BYTES:,} are allowed")
    _check_zip_directory(raw)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as bundle:
            _check_members(bundle.infolist())
            found = {info.filename: _read_member(bundle, info) for info in bundle.infolist()}
    except BundleError:
        raise
    except _DAMAGED_ZIP_ERRORS as error:
        raise BundleError(f"it is damaged or no zip: {error}; export the run again") from error
    manifest = parse_strict_json(MANIFEST_MEMBER, found.pop(MANIFEST_MEMBER))
    _check_manifest(manifest, found)
    return manifest, found


def _check_zip_directory(raw: bytes) -> None:
    """Refuse a list of members that would take long to read, before it is read."""
    place = raw.rfind(b"PK\x05\x06", max(0, len(raw) - _ZIP_END_RECORD.size - 0xFFFF))
    if not raw.startswith(b"PK") or place < 0 or place + _ZIP_END_RECORD.size > len(raw):
        raise BundleError("it is no zip, or its end is missing: choose a file made by exporting")
    _, *_, entries, length, _, _ = _ZIP_END_RECORD.unpack_from(raw, place)
    large = raw[max(0, place - 20) : place].startswith(b"PK\x06\x07")  # its true list is elsewhere
    if entries > _MAX_FILES or length > _MAX_ZIP_DIRECTORY_BYTES or large:
        raise BundleError(f"it holds {entries} files, and a bundle {len(MEMBERS) + 1} at most")


def _check_members(infos: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    for info in infos:
        if problem := _member_problem(info):
            raise BundleError(f"its file {info.orig_filename[:80]!r} {problem}")
    if twice := {name for name in names if names.count(name) > 1}:
        raise BundleError(f"it holds {min(twice)} twice")
    lacking = [
        name for name in (MANIFEST_MEMBER, *MEMBERS) if name not in {*names, *OPTIONAL_MEMBERS}
    ]
    if lacking:
        raise BundleError(f"it lacks {', '.join(lacking)}: choose a file made by exporting a run")
    if (total := sum(info.file_size for info in infos)) > MAX_UNPACKED_BYTES:
        raise BundleError(f"it unpacks to {total:,} bytes, and {MAX_UNPACKED_BYTES:,} are allowed")


def _member_problem(info: zipfile.ZipInfo) -> str:
    """Return what is wrong with a member by what the zip says of it; else nothing."""
    name = info.orig_filename
    if name.startswith(("/", "\\")) or ":" in name or ".." in name.replace("\\", "/").split("/"):
        return "leads out of the bundle"
    if name not in (MANIFEST_MEMBER, *MEMBERS):
        return f"does not belong in a bundle, which holds {', '.join((MANIFEST_MEMBER, *MEMBERS))}"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & 0x1:
        return "is encrypted: export it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that is not read here"
    most = _MAX_MEMBER_BYTES.get(name, _MAX_OTHER_MEMBER_BYTES)
    if info.file_size > most:
        return f"has {info.file_size:,} bytes, and {most:,} are allowed"
    return ""


def _read_member(bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return a member of which no more is unpacked than was announced."""
    with bundle.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise BundleError(f"its file {info.filename} has another size than it says")
    return data


def _check_manifest(manifest: Any, members: Mapping[str, bytes]) -> None:
    if not isinstance(manifest, dict) or manifest.get("format") != BUNDLE_FORMAT:
        raise BundleError(
            f"its {MANIFEST_MEMBER} is not that of a run: choose a file made by exporting"
        )
    version = manifest.get("version")
    if version != BUNDLE_VERSION or isinstance(version, bool):
        raise BundleError(
            f"its version is {str(version)[:20]}, and this Effcore reads version {BUNDLE_VERSION}: "
            "update Effcore"
        )
    about = manifest.get("members")
    if not isinstance(about, dict) or set(about) != set(members):
        raise BundleError(f"its {MANIFEST_MEMBER} lists other files than it holds")
    for name, data in members.items():
        said = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if about[name] != said:
            raise BundleError(
                f"its file {name} is not what was exported: size or checksum differ; "
                "export the run again"
            )


def parse_strict_json(name: str, raw: bytes) -> Any:
    """Return what a JSON text says, where it is UTF-8, of modest depth, and each key once.

    Raises:
        BundleError: It is not, or a number is none or too large.
    """
    try:
        data = json.loads(
            raw.decode("utf-8"),
            parse_constant=_refuse_nonfinite_constant,
            object_pairs_hook=_refuse_duplicate_keys,
        )
        _check_json_limits(data, 0)
    except (ValueError, RecursionError) as error:
        why = "too deep" if isinstance(error, RecursionError) else str(error)
        raise BundleError(f"its {name} cannot be read: {why}") from error
    return data


def _refuse_nonfinite_constant(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def _check_json_limits(data: Any, depth: int) -> None:
    """Refuse what no run holds, and what a database or a page would stumble over."""
    if depth > _MAX_JSON_DEPTH:
        raise ValueError("too deep")
    if isinstance(data, dict):
        for key, value in data.items():
            _check_json_limits(key, depth + 1)
            _check_json_limits(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            _check_json_limits(value, depth + 1)
    elif isinstance(data, str):
        if len(data) > _MAX_TEXT_LENGTH:
            raise ValueError("a text is too long")
        if any(c < " " and c not in "\n\t" or "\ud800" <= c <= "\udfff" for c in data):
            raise ValueError(f"{data[:40]!r} holds what is no text")
    elif isinstance(data, int | float) and not abs(data) <= _max_magnitude(data):
        raise ValueError("a number is too large")


def _max_magnitude(number: float) -> float:
    return _MAX_WHOLE_NUMBER if isinstance(number, int) else sys.float_info.max
