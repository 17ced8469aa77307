"""Old names that go on working and warn: of modules, of what they hold, and of attributes.

The names are in :mod:`effcore.records.old_names`. Nothing here imports anything else of Effcore,
so that every module may use it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

from effcore.records.old_names import OLD_ATTRIBUTES, OLD_KEYWORDS, OLD_MODULES, OLD_NAMES

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type[Any])

#: Modules between the author's line and this one, at which no warning should point.
_MACHINERY = {__name__, "abc", "dataclasses", "importlib._bootstrap"}


def _warn(old: str, new: str) -> None:
    """Warn of an old name, at the nearest line that is none of the machinery's."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") in _MACHINERY:
        frame = frame.f_back
    warnings.warn_explicit(
        f"{old} is deprecated: use {new}",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )


# Modules ---------------------------------------------------------------------------------


class _ModuleWithOldNames(ModuleType):
    """A module that resolves old names, its own or those of the module that replaced it."""

    def __getattr__(self, name: str) -> Any:
        old = f"{self.__name__}.{name}"
        new = OLD_NAMES.get(old)
        if new is None and self.__name__ in OLD_MODULES and old not in OLD_MODULES:
            new = None if name.startswith("__") else f"{OLD_MODULES[self.__name__]}.{name}"
        if new is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, attribute = new.rpartition(".")
        value = getattr(importlib.import_module(module), attribute)
        _warn(old, new)
        return value

    def __dir__(self) -> list[str]:
        modules = [name.rpartition(".") for name in OLD_NAMES]
        return [*super().__dir__(), *(name for own, _, name in modules if own == self.__name__)]


class _OldModuleLoader(Loader):
    """Makes an empty module under an old path; its names come from the new one."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _ModuleWithOldNames(spec.name, f"Old path of ``{OLD_MODULES[spec.name]}``.")

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def find_old_module(name: str) -> ModuleSpec | None:
    """Return how to import a module by its old path; ``None`` where it is none."""
    if name not in OLD_MODULES:
        return None
    is_package = any(module.startswith(f"{name}.") for module in OLD_MODULES)
    return ModuleSpec(name, _OldModuleLoader(), is_package=is_package)


def resolve_old_names(module: str) -> None:
    """Let a module that stayed where it was resolve what it used to be asked for."""
    sys.modules[module].__class__ = _ModuleWithOldNames


# Classes and functions -------------------------------------------------------------------


class _OldMethod:
    """The old name of a method, as an attribute of the class that had it."""

    def __init__(self, owner: type[Any], old: str, new: str) -> None:
        self.owner = owner
        self.old = old
        self.new = new

    def __get__(self, instance: Any, cls: type[Any]) -> Any:
        _warn(f"{self.owner.__name__}.{self.old}", self.new)
        target = cls if instance is None else instance
        overriding = [kind for kind in cls.__mro__ if self.is_defined_by(kind)]
        if overriding:  # they are found first, so this is their super().old
            return getattr(super(overriding[-1], target), self.new)
        return getattr(target, self.new)

    def is_defined_by(self, cls: type[Any]) -> bool:
        """Whether a class defines the old name itself."""
        return not isinstance(vars(cls).get(self.old, self), _OldMethod)

    def can_be(self, value: Any) -> bool:
        """Whether a subclass that gives the old name this value means the method."""
        return callable(value) or isinstance(value, classmethod | staticmethod | property)


class _OldValue(_OldMethod):
    """The old name of an attribute with a value."""

    def __set__(self, instance: Any, value: Any) -> None:
        _warn(f"{self.owner.__name__}.{self.old}", self.new)
        setattr(instance, self.new, value)

    def can_be(self, value: Any) -> bool:
        return isinstance(value, property) or not (
            callable(value) or isinstance(value, dataclasses.Field)
        )


def with_old_names(cls: C) -> C:
    """Let a class, its constructor and its subclasses go by the old names of its attributes."""
    kind: Any = cls
    attributes = OLD_ATTRIBUTES[f"{kind.__module__}.{kind.__qualname__}"]
    old_names = []
    for old, new in attributes.items():
        descriptor = _OldMethod if callable(getattr(kind, new, None)) else _OldValue
        old_names.append(descriptor(kind, old, new))
        setattr(kind, old, old_names[-1])

    def init_subclass(subclass: type[Any], /, **options: Any) -> None:
        super(kind, subclass).__init_subclass__(**options)
        for old_name in old_names:
            _take_old_override(old_name, subclass)

    kind.__init_subclass__ = classmethod(init_subclass)
    fields = [field.name for field in dataclasses.fields(kind)] if _is_dataclass(kind) else []
    fields += getattr(kind, "_fields", ())
    if keywords := {old: new for old, new in attributes.items() if new in fields}:
        if issubclass(kind, tuple):
            kind.__new__ = staticmethod(_accepting(kind.__new__, keywords, kind.__name__))
        else:
            kind.__init__ = _accepting(kind.__init__, keywords, kind.__name__)
    return cls


def _is_dataclass(cls: type[Any]) -> bool:
    return dataclasses.is_dataclass(cls)


def _take_old_override(old_name: _OldMethod, subclass: type[Any]) -> None:
    """Give a subclass under the new name what it, or a class mixed in, defines under the old."""
    old, new = old_name.old, old_name.new
    definer = next(kind for kind in subclass.__mro__ if old in vars(kind) or new in vars(kind))
    value = vars(definer).get(old)
    if new in vars(definer) or isinstance(value, _OldMethod) or not old_name.can_be(value):
        return
    if definer is not subclass and issubclass(definer, old_name.owner):
        return  # this was done when the definer was made
    _warn(f"{subclass.__name__}.{old}", new)
    setattr(subclass, new, value)
    if definer is subclass and isinstance(old_name, _OldValue) and not isinstance(value, property):
        delattr(subclass, old)  # so that what is set under either name is one value


def with_old_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function go by the old names of its arguments."""
    name = f"{function.__module__}.{function.__qualname__}"
    return _accepting(function, OLD_KEYWORDS[name], function.__name__)


def _accepting(function: Callable[P, R], keywords: Mapping[str, str], name: str) -> Callable[P, R]:
    """Return a function that takes each argument by its old keyword, too."""

    @functools.wraps(function)
    def accepting(*args: Any, **arguments: Any) -> R:
        for old in keywords.keys() & arguments.keys():
            _warn(f"{name}({old}=…)", f"{keywords[old]}=")
            arguments[keywords[old]] = arguments.pop(old)
        return function(*args, **arguments)

    return accepting
