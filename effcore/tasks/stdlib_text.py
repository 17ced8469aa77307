"""Source text of the Python standard library, which every machine has.

It differs between versions of Python, so a hash identifies the text that was read. Characters
beyond ASCII are replaced by question marks, so that one byte is one character.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from effcore.tasks.base import Provenance


class MissingSourceError(RuntimeError):
    """The source of a library module is not on this machine."""


def read_library_files(names: Iterable[str], limit: int) -> str:
    """Return the first ``limit`` characters of each of these files, one after the other.

    Args:
        names: Paths relative to the standard library, e.g. ``ast.py`` or ``email/header.py``.
        limit: Largest number of characters of each file.

    Raises:
        MissingSourceError: A file does not exist.
    """
    return "".join(_ascii_source(_library_folder() / name)[:limit] for name in names)


def package_files(package: str) -> list[str]:
    """Return a package's Python files without tests, sorted by name.

    Raises:
        MissingSourceError: There are none.
    """
    root = _library_folder()
    paths = (root / package).rglob("*.py")
    # Sorted as text, since paths have another order on Windows.
    names = sorted(path.relative_to(root).as_posix() for path in paths)
    names = [name for name in names if "/test" not in name]
    if not names:
        raise _missing_source_error(package)
    return names


def text_provenance(read_all: Callable[[], Iterable[str]]) -> Provenance:
    """Return the Python version, size and hash of a text, or why it is not available.

    Args:
        read_all: Returns the parts of the text, the same at each call.
    """
    try:
        parts = tuple(read_all())
    except MissingSourceError as error:
        return Provenance(problem=str(error))
    return _hashed_provenance(parts)


@functools.lru_cache(maxsize=4)
def _hashed_provenance(parts: tuple[str, ...]) -> Provenance:
    """Return the hashed provenance; cached, since every resolved configuration needs it."""
    text = "".join(parts)
    digest = hashlib.sha256(text.encode("ascii")).hexdigest()
    words = (
        f"Standard library of Python {platform.python_version()}, "
        f"{len(text):,} characters, SHA-256 {digest[:12]}…"
    )
    return Provenance(words, digest)


def replace_tokens(
    tokens_BT: torch.Tensor, share: float, vocabulary: int, generator: torch.Generator
) -> torch.Tensor:
    """Return tokens, int64 (B, T), with this share replaced by random ones of the vocabulary."""
    shape, device = tokens_BT.shape, tokens_BT.device
    coin_BT = torch.rand(shape, generator=generator, device=device)
    other_BT = torch.randint(0, vocabulary, shape, generator=generator, device=device)
    return torch.where(coin_BT < share, other_BT, tokens_BT)


def _library_folder() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _ascii_source(path: Path) -> str:
    try:
        source = path.read_text(encoding="utf-8")
    except OSError:
        raise _missing_source_error(path.name) from None
    return source.encode("ascii", "replace").decode("ascii")


def _missing_source_error(name: str) -> MissingSourceError:
    return MissingSourceError(
        f"the source of the standard library's {name} is not on this machine: use a Python "
        "installation with source files, or choose another task"
    )
