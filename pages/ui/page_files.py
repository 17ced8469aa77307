"""Files of pages that the frame does not list by name."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path


def further_page_files(known: Container[str], folder: Path) -> list[Path]:
    """Return the pages of a folder besides the known ones, in alphabetical order.

    Args:
        known: Names of known pages: files without ``.py``.
        folder: Folder of the pages. Files that begin with an underscore are no pages.
    """
    files = sorted(folder.glob("[!_]*.py"))
    return [file for file in files if file.stem not in known]
