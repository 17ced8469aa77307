"""The Python standard library's own source: text that is on every machine.

It differs a little between versions of Python, so what was read is named by its hash.
Characters beyond ASCII become question marks: one byte is one character.
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
    """A module's source is not on this machine."""


def read_library_files(names: Iterable[str], limit: int) -> str:
    """Return the first ``limit`` characters of each of these files, one after the other.

    Args:
        names: Paths relative to the standard library, e.g. ``ast.py`` or ``email/header.py``.
        limit: Characters taken of each.

    Raises:
        MissingSourceError: One of them is not there.
    """
    return "".join(_ascii_source(_library_folder() / name)[:limit] for name in names)


def package_files(package: str) -> list[str]:
    """Return a package's files, in order of name, tests left out.

    Raises:
        MissingSourceError: It has none.
    """
    root = _library_folder()
    found = (root / package).rglob("*.py")
    # Sorted as text: paths themselves sort otherwise on Windows.
    names = sorted(path.relative_to(root).as_posix() for path in found)
    names = [name for name in names if "/test" not in name]
    if not names:
        raise _missing_source_error(package)
    return names


def text_provenance(read_all: Callable[[], Iterable[str]]) -> Provenance:
    """Return whose a text is, how much of it there is, and its hash; or why there is none.

    Args:
        read_all: Returns the text in parts, the same ones each time.
    """
    try:
        parts = tuple(read_all())
    except MissingSourceError as error:
        return Provenance(problem=str(error))
    return _hashed_provenance(parts)


@functools.lru_cache(maxsize=4)
def _hashed_provenance(parts: tuple[str, ...]) -> Provenance:
    """Hash a text once, and not with every configuration that is resolved."""
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
    """Return tokens, int64 (B, T), this share of them replaced by any of the vocabulary."""
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
        "that comes with its library as files, or another task"
    )
