"""What a user of Effcore can rely on by name: commands, pages, JSON keys, knobs, Python names.

``inventory.json`` holds it as it was when recorded. Each part is found here by what a user does:
calling a command, opening a page, importing a name. :func:`missing` says what is recorded and no
longer there; what is new does not matter.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import click
import streamlit as st
from streamlit.testing.v1 import AppTest

from effcore.__main__ import main
from tests.goldens.runs import printed

INVENTORY = Path(__file__).with_name("inventory.json")
ROOT = Path(__file__).parents[2]
#: A run on the smallest task, and a study and a sweep of such runs.
RUN = "run --task tabular-wine --epochs 2 --device cpu --threads 1"
STUDY = "compare --task tabular-wine --policy auto --seeds 2 --epochs 1"
#: A margin that lets a trial through to its confirmation.
SWEEP = (
    "sweep --task tabular-wine --policy confident-skip --trials 2 --seeds 2 --epochs 2 "
    "--margin 0.9 --confirm-seeds 6"
)
#: Settings in the address of the Live page, besides those that are there by default.
SETTINGS = {
    "task": "digits", "selection": "stale-pps", "update": "prefix-freeze",
    "intensity": "resolution", "budget": "0.6", "label_noise": "0.1",
}  # fmt: skip
#: Commands that print JSON and take about a second at most.
QUICK = (
    "list",
    "doctor",
    "bench matched --task tabular-wine --seeds 2 --epochs 1",
    "bench length --task tabular-wine --seeds 2 --epochs 1,2 --quick",
    "bench savings --tasks tabular-wine --arms auto --quick",
    "bench search --task tabular-wine --epochs 1",
    "bench power",
    "bench sampler --task tabular-wine --blocks 3 --seconds 0.05",
    "bench ladder --task tabular-wine --quick --epochs 1",
    "bench claim --part families --models tabular-wine/mlp --quick",
)
#: The same, several seconds each.
SLOW = (
    "bench checkpoints --task tabular --blocks 3 --seconds 3",
    "bench overhead --task tabular-wine --blocks 3 --seconds 0.05",
    "bench overhead --policies --task tabular-wine --blocks 3 --seconds 0.05",
    "bench realised --task tabular-wine --epochs 1 --repeats 3 --policies random",
    "bench suspects --task digits --model mlp --quick --policies dense --seeds 1",
    "bench peers --task digits --model mlp --size small --epochs 1 --seeds 2",
    "bench claim --part grid --rows 500 --quick",
    "bench claim --part machine --machine-tasks tabular-wine --quick --repeats 3",
)
#: Objects whose keys are no names of Effcore's: of trials.
_OF_TRIALS = frozenset({"tried"})
#: Objects that are there on some machines only: joules.
_NOT_EVERYWHERE = frozenset({"joules"})
_RUN_ID = re.compile(r"\d{8}-\d{6}-\w{4}")
_VARIABLE = re.compile(r"\b(?:EFFCORE_[A-Z_]+|(?:OMP|MKL)_NUM_THREADS|CUDA_VISIBLE_DEVICES)\b")
#: Modules from which a file with a policy, a task or an energy source of one's own imports.
AUTHORS = (
    "effcore.knobs",
    "effcore.records.step_plan",
    "effcore.policies.selection.base",
    "effcore.policies.update.base",
    "effcore.policies.intensity.base",
    "effcore.tasks.base",
    "effcore.energy.sources.base",
)
#: Functions of ``effcore.testing`` whose parameter ``cls`` is a base class for authors.
_CONTRACTS = ("selection_policy", "update_policy", "intensity_policy", "task")


def missing(recorded: Any, now: Any, where: str = "") -> list[str]:
    """Return what is recorded and not there now.

    Args:
        recorded: Objects by name, lists of which the order does not matter, and values.
        now: The same, collected anew; it may hold more.
        where: Name of what is compared.
    """
    if isinstance(recorded, dict) and isinstance(now, dict):
        lost = []
        for name, value in recorded.items():
            place = f"{where} > {name}" if where else name
            lost += missing(value, now[name], place) if name in now else [f"{place} is missing"]
        return lost
    if isinstance(recorded, list) and isinstance(now, list):
        return [f"{where}: {value!r} is missing" for value in recorded if value not in now]
    return [] if recorded == now else [f"{where} is {now!r}, recorded {recorded!r}"]


# Command line ----------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """Return the options, arguments and choices of every command."""
    own = [word for option in main.params for word in option.opts]
    return {"": {"options": sorted(own), "arguments": [], "choices": {}}} | dict(
        _commands(main, "")
    )


def _commands(group: click.Group, before: str) -> Iterator[tuple[str, Any]]:
    context = click.Context(group, **group.context_settings)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before}{name} ")
            continue
        params = command.get_params(click.Context(command))
        options = [param for param in params if isinstance(param, click.Option)]
        choices = {
            option.opts[0]: sorted(option.type.choices)
            for option in options
            if isinstance(option.type, click.Choice)
        }
        yield (
            f"{before}{name}",
            {
                # Click keeps the help option of the first context that asked for it.
                "options": sorted(
                    {word for option in options for word in option.opts}
                    | set(context.help_option_names)
                ),
                "arguments": [str(p.name) for p in params if isinstance(p, click.Argument)],
                "choices": choices,
            },
        )


def listed() -> dict[str, Any]:
    """Return tasks, models, policies, knobs and settings with their ranges and defaults."""
    found = printed("list")
    tasks = {}
    for task in found["tasks"]:
        models = {model["id"]: _without(model, "id", "summary") for model in task["models"]}
        own = {"models": models, "data": _by_name(task["data"])}
        tasks[task["id"]] = _without(task, "id", "summary", "provenance") | own
    kinds = {
        kind: {policy["id"]: _by_name(policy["knobs"]) for policy in found[kind]}
        for kind in ("selection", "update", "intensity")
    }
    settings = {name: _without(setting, "help") for name, setting in found["settings"].items()}
    return {"tasks": tasks, "policies": kinds, "settings": settings}


def _by_name(knobs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {knob["name"]: _without(knob, "name", "help") for knob in knobs}


def _without(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}


def json_keys(lines: Iterable[str]) -> dict[str, list[str]]:
    """Return the keys in the JSON that each command prints."""
    return {line: keys_of(printed(*line.split())) for line in lines}


def keys_of(record: Any) -> list[str]:
    """Return the path of every key in JSON, the items of a list taken together as ``[]``."""
    return sorted(set(_paths(record, "")))


def _paths(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _paths(inner, f"{where}[]")
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        place = f"{where}.{name}" if where else name
        yield place
        if name in _OF_TRIALS:
            for each in inner.values():
                yield from _paths(each, f"{place}.*")
        elif name not in _NOT_EVERYWHERE:
            yield from _paths(inner, place)


# Pages -----------------------------------------------------------------------------------


def application(run_id: str, study_id: str, sweep_id: str) -> dict[str, Any]:
    """Return pages, addresses with their parameters, files to download with their columns.

    Args:
        run_id: A run in the store, to be shown.
        study_id: A study in the store.
        sweep_id: A sweep in the store.
    """
    import app
    from tests.pages.visit import MAIN

    run, study, sweep = {"run": run_id}, {"study": study_id}, {"sweep": sweep_id}
    looks: list[tuple[str, Mapping[str, str]]] = [
        ("", {}), ("", SETTINGS), ("live", run), ("compare", study), ("frontier", sweep),
        ("runs", run), ("runs", study), ("examples", run), ("energy", run), ("how", {}),
        ("tour", {}), ("present", run), ("present", study), ("present", sweep),
    ]  # fmt: skip
    addresses: set[str] = set()
    asked: dict[str, set[str]] = {}
    files: dict[str, dict[str, list[str]]] = {}
    for page, query in looks:
        shown = AppTest.from_file(str(MAIN), default_timeout=60)
        for name, value in query.items():
            shown.query_params[name] = value
        shown.session_state["examples-map-drawn"] = True  # which only a browser says
        with _noted(addresses, asked.setdefault(page, set()), files.setdefault(page, {})):
            (shown.switch_page(f"{page}.py") if page else shown).run()
        assert not shown.exception, f"page {page!r}: {shown.exception}"
        asked[page] |= set(shown.query_params)  # the address that it wrote itself
    return {
        "files": sorted(path.name for path in (ROOT / "pages").glob("*.py")),
        "addresses": sorted(addresses),
        "routes": sorted(str(getattr(route, "path", route)) for route in app.app._user_routes),
        "parameters": {page: sorted(names) for page, names in asked.items()},
        "downloads": {page: made for page, made in files.items() if made},
    }


@contextmanager
def _noted(addresses: set[str], asked: set[str], files: dict[str, list[str]]) -> Iterator[None]:
    """Note the pages there are, the parameters a page asks for, and the files it offers."""
    navigation, parameters = st.navigation, type(st.query_params)

    def navigate(pages: list[Any], **options: Any) -> Any:
        addresses.update(page.url_path for page in pages)
        return navigation(pages, **options)

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def ask(self: Any, name: str, *default: Any) -> Any:
            asked.add(name)
            return method(self, name, *default)

        return ask

    def offer(label: str, data: Any, file_name: str, *_: Any, **__: Any) -> bool:
        content = data() if callable(data) else data
        columns = _columns(content) if file_name.endswith(".csv") else []
        files[_RUN_ID.sub("ID", file_name)] = columns
        return False

    with ExitStack() as patches:
        for name in ("get", "get_all"):
            patched = noting(getattr(parameters, name))
            patches.enter_context(mock.patch.object(parameters, name, patched))
        patches.enter_context(mock.patch.object(st, "navigation", navigate))
        patches.enter_context(mock.patch.object(st, "download_button", offer))
        yield


def _columns(table: bytes) -> list[str]:
    return [name for name in table.decode().splitlines()[0].split(",") if name]


# Names -----------------------------------------------------------------------------------


def environment() -> list[str]:
    """Return the environment variables that the source names."""
    sources = [*(ROOT / "effcore").rglob("*.py"), *(ROOT / "pages").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    return sorted(set(_VARIABLE.findall(text)))


def python_names() -> dict[str, list[str]]:
    """Return what ``effcore`` and its contracts offer, and what an author may override."""
    import effcore
    from effcore import testing

    with effcore.meter("cpu") as meter:
        found = {"effcore.meter()": _public(meter)}
    selector = effcore.selector("random", examples=8, batch_size=2, epochs=1)
    found |= {
        "effcore": sorted(effcore.__all__),
        "effcore.testing": sorted({*testing.__all__, *_public(testing)}),
        "effcore.selector()": _public(selector),
    }
    for name in _CONTRACTS:
        hints = typing.get_type_hints(getattr(testing, f"check_{name}"))
        (base,) = typing.get_args(next(iter(hints.values())))
        found[f"base class of a {name}"] = _public(base)
    return found


def authors_names(recorded: Mapping[str, Mapping[str, list[str]]] | None = None) -> dict[str, Any]:
    """Return what the modules for authors hold, and the attributes of their classes.

    Args:
        recorded: Names to look for, by module; without it, all that the modules define.
    """
    found: dict[str, Any] = {}
    for name in AUTHORS if recorded is None else recorded:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old name may warn, as long as it works
            try:
                module = importlib.import_module(name)
            except ImportError:
                continue
            wanted = _defined(module) if recorded is None else recorded[name]
            things = {each: getattr(module, each) for each in wanted if hasattr(module, each)}
            found[name] = {
                each: _public(thing) if isinstance(thing, type) else []
                for each, thing in things.items()
            }
    return found


def _defined(module: Any) -> list[str]:
    """Return the public names that a module defines itself."""
    found: set[str] = set()
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return sorted(name for name in found if not name.startswith("_") and len(name) > 1)


def _public(thing: Any) -> list[str]:
    """Return the public attributes of an object, those that are only declared included."""
    kinds = thing.__mro__ if isinstance(thing, type) else type(thing).__mro__
    declared = {name for kind in kinds for name in getattr(kind, "__annotations__", {})}
    return sorted(name for name in {*dir(thing), *declared} if not name.startswith("_"))


# Everything ------------------------------------------------------------------------------


def collected() -> dict[str, Any]:
    """Return all but what takes long; the same keys as in the recorded file."""
    records = {line: printed(*line.split()) for line in (RUN, STUDY, SWEEP)}
    run, study, sweep = records.values()
    return {
        "commands": commands(),
        "listed": listed(),
        "json": {line: keys_of(record) for line, record in records.items()} | json_keys(QUICK),
        "pages": application(run["run_id"], study["study_id"], sweep["sweep_id"]),
        "environment": environment(),
        "python": python_names(),
    }
