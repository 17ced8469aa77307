"""Register and discover policies, tasks and meters by id.

A registry is bound to a package; every module in it is imported once, and each class it
marks with ``@REGISTRY.add`` is offered everywhere: page, command line, contract tests.
Adding a thing is therefore adding a file.
"""

from __future__ import annotations

import difflib
import importlib
import os
import pkgutil
from collections.abc import Iterator
from typing import ClassVar, Generic, Protocol, TypeVar


class UnknownNameError(ValueError):
    """A name that no registered thing has; the message suggests the nearest."""


class Registered(Protocol):
    """What every registered class declares."""

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]


def suggest_nearest(name: str, allowed: list[str]) -> str:
    """Return a clause that suggests the closest allowed name, or lists them all."""
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(allowed)}."


T = TypeVar("T", bound=Registered)


class Registry(Generic[T]):
    """Things of one kind, by id, discovered from the modules of a package.

    Args:
        kind: What an item is called in messages, e.g. ``"selection policy"``.
        package: Dotted name of the package whose modules register themselves.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._items: dict[str, type[T]] = {}
        self._imported: set[str] = set()
        self._scanned_folders: list[
            tuple[str, int]
        ] = []  # the folders as they were looked through last

    def add(self, cls: type[T]) -> type[T]:
        """Register a class under its ``id``; usable as a decorator.

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
        """Forget an item, so that a test can leave no trace."""
        module = self._items.pop(name).__module__
        self._imported.discard(module.rpartition(".")[2])
        self._scanned_folders = []

    def discover(self) -> None:
        """Import every module of the package that was not imported yet."""
        package = importlib.import_module(self._package)
        # Looking through folders takes long, and a page asks a hundred times.
        folders = [(path, os.stat(path).st_mtime_ns) for path in package.__path__]
        if folders == self._scanned_folders:
            return
        for info in pkgutil.iter_modules(package.__path__):
            if info.name not in self._imported:
                importlib.import_module(f"{self._package}.{info.name}")
                # Only now: another thread that asks meanwhile waits for the same import.
                self._imported.add(info.name)
        self._scanned_folders = folders

    def get(self, name: str) -> type[T]:
        """Return the class registered as ``name``.

        Raises:
            UnknownNameError: Nothing has that id; the message names the nearest.
        """
        self.discover()
        try:
            return self._items[name]
        except KeyError:
            raise UnknownNameError(
                f"unknown {self.kind} {name!r}: {suggest_nearest(name, self.ids())}"
            ) from None

    def ids(self) -> list[str]:
        """Return the ids in their order of listing: the default first, then by name."""
        self.discover()
        return sorted(self._items, key=lambda i: (getattr(self._items[i], "rank", 50), i))

    def __iter__(self) -> Iterator[type[T]]:
        """Iterate over the registered classes in their order of listing."""
        return iter([self._items[name] for name in self.ids()])
