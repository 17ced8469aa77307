"""Safe extraction of a bundle's members from an untrusted zip file.

Nothing is written to disk. Members are read into memory; names and sizes are checked against the
bundle format and not taken from the zip's own claims.
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
#: Exceptions of :mod:`zipfile` for a damaged file.
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
    """A file is no bundle, or a bundle that cannot be imported; the message says why."""


def read_bundle_members(raw: bytes) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
    """Return a bundle's manifest and its other members, with sizes and checksums verified.

    Raises:
        BundleError: The file is no zip, holds files that no bundle has, or is damaged.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise BundleError(f"it has {len(raw):,} bytes, more than the {MAX_BUNDLE_BYTES:,} allowed")
    _check_zip_directory(raw)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as bundle:
            _check_members(bundle.infolist())
            members = {info.filename: _read_member(bundle, info) for info in bundle.infolist()}
    except BundleError:
        raise
    except _DAMAGED_ZIP_ERRORS as error:
        raise BundleError(f"it is damaged or no zip: {error}; export the run again") from error
    manifest = parse_strict_json(MANIFEST_MEMBER, members.pop(MANIFEST_MEMBER))
    _check_manifest(manifest, members)
    return manifest, members


def _check_zip_directory(raw: bytes) -> None:
    """Refuse a zip directory that is too long, before it is read."""
    end = raw.rfind(b"PK\x05\x06", max(0, len(raw) - _ZIP_END_RECORD.size - 0xFFFF))
    if not raw.startswith(b"PK") or end < 0 or end + _ZIP_END_RECORD.size > len(raw):
        raise BundleError(
            "it is no zip file, or it is cut off: choose a file made by exporting a run"
        )
    _, *_, entries, length, _, _ = _ZIP_END_RECORD.unpack_from(raw, end)
    is_zip64 = raw[max(0, end - 20) : end].startswith(b"PK\x06\x07")
    if entries > _MAX_FILES or length > _MAX_ZIP_DIRECTORY_BYTES or is_zip64:
        raise BundleError(f"it holds {entries} files, and a bundle has at most {len(MEMBERS) + 1}")


def _check_members(infos: list[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    for info in infos:
        if problem := _member_problem(info):
            raise BundleError(f"its file {info.orig_filename[:80]!r} {problem}")
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise BundleError(f"it holds {min(duplicates)} more than once")
    missing = [
        name for name in (MANIFEST_MEMBER, *MEMBERS) if name not in {*names, *OPTIONAL_MEMBERS}
    ]
    if missing:
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


def _read_member(bundle: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Unpack a member, and no more of it than the zip directory announces."""
    with bundle.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise BundleError(
            f"its file {info.filename} does not have the size that the zip directory announces"
        )
    return data


def _check_manifest(manifest: Any, members: Mapping[str, bytes]) -> None:
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
        actual = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if listed[name] != actual:
            raise BundleError(
                f"its file {name} changed after export: its size or checksum differs; "
                "export the run again"
            )


def parse_strict_json(name: str, raw: bytes) -> Any:
    """Parse JSON text strictly.

    Raises:
        BundleError: The text is not JSON in UTF-8, is nested too deep, has a duplicate key, or
            holds a text or number that is too large or a number that is not finite.
    """
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
            raise ValueError(f"{data[:40]!r} holds characters that are not text")
    elif isinstance(data, int | float) and not abs(data) <= _max_magnitude(data):
        raise ValueError("a number is too large")


def _max_magnitude(number: float) -> float:
    return _MAX_WHOLE_NUMBER if isinstance(number, int) else sys.float_info.max
