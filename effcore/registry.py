"""Registries of policies, tasks and energy sources by id.

A registry is bound to a package. It imports every module of the package once, and each class
there with the decorator ``@REGISTRY.add`` is available everywhere: pages, command line, contract
tests. To add a policy or a task is therefore to add a file.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
from collections.abc import Iterator
from typing import ClassVar, Generic, Protocol, TypeVar

from effcore.records.deprecation import resolve_old_names


class UnknownNameError(ValueError):
    """A name that is not registered; the message suggests the nearest one."""


class Registered(Protocol):
    """Class attributes that every registered class declares."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]


def suggest_nearest(name: str, allowed: list[str]) -> str:
    """Return a hint that lists the allowed names and, if one is close, suggests it."""
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(allowed)}."


T = TypeVar("T", bound=Registered)


class Registry(Generic[T]):
    """Classes of one kind by id, discovered in the modules of a package.

    Args:
        kind: Name of the kind in messages, e.g. ``"selection policy"``.
        package: Dotted name of the package whose modules register classes.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._items: dict[str, type[T]] = {}
        self._imported: set[str] = set()
        #: Path and modification time of the package's folders at the last scan.
        self._scanned_folders: list[tuple[str, int]] = []

    def add(self, cls: type[T]) -> type[T]:
        """Register a class under its ``id``; for use as a decorator.

        Raises:
            ValueError: Another class already has that id.
        """
        known = self._items.get(cls.id)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(
                f"{self.kind} id {cls.id!r} is taken by {known.__qualname__}; "
                f"give {cls.__qualname__} another id"
            )
        self._items[cls.id] = cls
        return cls

    def remove(self, name: str) -> None:
        """Remove a class, so that a test can undo its registration."""
        module = self._items.pop(name).__module__
        self._imported.discard(module.rpartition(".")[2])
        self._scanned_folders = []

    def discover(self) -> None:
        """Import every module of the package that is not imported yet."""
        package = importlib.import_module(self._package)
        # Listing folders is slow, and a page calls this a hundred times.
        folders = [(path, os.stat(path).st_mtime_ns) for path in package.__path__]
        if folders == self._scanned_folders:
            return
        for info in pkgutil.iter_modules(package.__path__):
            if info.name not in self._imported:
                importlib.import_module(f"{self._package}.{info.name}")
                # Only after the import, so that another thread waits for the same import.
                self._imported.add(info.name)
        self._scanned_folders = folders

    def get(self, name: str) -> type[T]:
        """Return the class registered as ``name``.

        Raises:
            UnknownNameError: No class has that id; the message suggests the nearest.
        """
        self.discover()
        try:
            return self._items[name]
        except KeyError:
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}: {suggest_nearest(name, self.ids())}"
            ) from None

    def ids(self) -> list[str]:
        """Return the ids sorted by rank, then by name."""
        self.discover()
        return sorted(self._items, key=lambda i: (getattr(self._items[i], "rank", 50), i))

    def __iter__(self) -> Iterator[type[T]]:
        """Iterate over the registered classes, sorted as in :meth:`ids`."""
        return iter([self._items[name] for name in self.ids()])


resolve_old_names(__name__)
