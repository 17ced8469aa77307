"""Counts of what the design forbids in the source, and a sample of its names.

``python -m tests.structure [CHECKOUT]`` prints the counts for this or another checkout, and
``python -m tests.structure names --seed 1`` twenty names of functions and classes at random.
Everything is read from the source, so that nothing hides in a function.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click

ROOT = Path(__file__).parents[1]
PACKAGES = ("effcore", "pages")

RECORDS = ("records", "knobs", "registry", "home")
PARTS = ("policies", "tasks", "energy")
SERVICES = ("config", "store", "training")
RUNS = ("runs", "studies", "impact", "figures", "insight", "report", "testing")
ENDS = ("bench", "cli", "__main__", "__init__")
#: Where a part of the library belongs, from the bottom up; one may import what is on its own
#: level or below, except that policies, tasks and energy never import each other.
LEVELS = [RECORDS, PARTS, SERVICES, RUNS, ("live",), ENDS]

#: Modules in which a mapping of names to values of any type is what the outside hands over or
#: takes, with the reason.
MAPPING_EDGES = {
    "effcore/bench/command_line.py": "what `bench … --json` prints",
    "effcore/bench/bench_store.py": "JSON of a file of timings",
    "effcore/cli/doctor.py": "what `doctor --json` prints, and the same as text",
    "effcore/cli/listing.py": "what `list --json` prints, and the same as text",
    "effcore/energy/arithmetic.py": "fields of a record that are merged one by one, by name",
    "effcore/figures/example_charts.py": "columns of points that a browser reads",
    "effcore/figures/study_charts.py": "Plotly's JSON",
    "effcore/figures/run_charts.py": "Plotly's JSON",
    "effcore/impact/make_grid_factors.py": "JSON of the statistics office",
    "effcore/insight/race_recording.py": "JSON of a recorded race",
    "effcore/live/broadcaster.py": "JSON that a browser reads",
    "effcore/live/protocol.py": "JSON that a browser reads",
    "effcore/live/tiles.py": "JSON that a browser reads",
    "effcore/records/attribution.py": "what `run --json` prints",
    "effcore/records/views.py": "JSON beside the arrays of a picture, stored or sent",
    "effcore/report.py": "any record as a JSON file",
    "effcore/runs/summary.py": "what `run --json` prints",
    "effcore/store/bundle_import.py": "JSON of a bundle, from anywhere",
    "effcore/store/serialization.py": "JSON in the store",
    "effcore/store/trash.py": "a row of the database, as JSON",
    "effcore/studies/comparison.py": "what `compare --json` prints",
    "effcore/studies/frontier.py": "what `sweep --json` prints",
    "effcore/studies/savings.py": "what `compare --json` prints",
    "effcore/training/checkpoint.py": "state in a checkpoint",
    "effcore/training/ledger.py": "arguments of any operation of PyTorch",
    "effcore/training/selector.py": "a state_dict, as PyTorch has them",
    "pages/compare.py": "rows of a table on the page",
    "pages/energy.py": "what a person typed into fields, by the claim's field",
    "pages/ui/examples/data_map.py": "columns of a table on the page",
    "pages/ui/runs/actions.py": "rows of a table on the page",
    "pages/ui/runs/run_table.py": "rows of a table on the page",
    "pages/ui/runs/study_table.py": "rows of a table on the page",
    "pages/ui/studies/study_page.py": "any record as a JSON file",
    "pages/ui/tour/panel.py": "JSON that a browser reads",
}

#: Modules that ask what a text says that is not written by this version of Effcore, with the
#: reason.
TEXT_EDGES = {
    "effcore/impact/saving_text.py": "stored runs say of other users in a note alone",
    "effcore/store/bundle_import.py": "bundles say that a run is another machine's in texts alone",
    "effcore/studies/run_origin.py": "the operating system's description of the processor",
}


class Module(NamedTuple):
    """A source file.

    Attributes:
        path: Its path below the checkout, with ``/``.
        name: Its dotted name.
        tree: Its syntax tree.
    """

    path: str
    name: str
    tree: ast.Module


class Finding(NamedTuple):
    """A place that breaks a rule."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


@cache
def modules(root: Path = ROOT) -> tuple[Module, ...]:
    """Return all modules of the library and the pages."""
    paths = sorted(path for folder in PACKAGES for path in (root / folder).rglob("*.py"))
    return tuple(parse_module(root, path) for path in paths)


def parse_module(root: Path, path: Path) -> Module:
    """Return a source file below a checkout."""
    below = path.relative_to(root).with_suffix("")
    parts = below.parts[:-1] if below.name == "__init__" else below.parts
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return Module(path.relative_to(root).as_posix(), ".".join(parts), tree)


def imported_names(module: Module) -> frozenset[str]:
    """Return every dotted name that a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.path}: say imports in full, not relative"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported_parts(module: Module) -> set[str]:
    """Return the parts of the library, its files and folders, that a module imports."""
    names = [name.split(".") for name in imported_names(module)]
    return {name[1] for name in names if name[0] == "effcore" and len(name) > 1}


def library_part(module: Module) -> str:
    """Return the part of the library that a module of it belongs to."""
    return module.path.split("/")[1].removesuffix(".py")


def duplicate_classes(root: Path = ROOT) -> list[Finding]:
    """Return the class names that are used more than once."""
    places = defaultdict(list)
    for module in modules(root):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module.path)
    twice = {name: where for name, where in sorted(places.items()) if len(where) > 1}
    return [Finding(", ".join(where), name) for name, where in twice.items()]


#: Methods that ask what a text holds, or take it apart.
_TEXT_METHODS = {
    "startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split",
    "rsplit", "find", "rfind", "index", "rindex", "count",
}  # fmt: skip
_JS_METHODS = re.compile(r"""\.(?:startsWith|endsWith|includes|indexOf|split)\(\s*(["'`])(.*?)\1""")
_JS_COMPARISONS = re.compile(r"""(?:[=!]==?|\bcase)\s*(["'`])(.*?)\1""")


def is_sentence(text: str) -> bool:
    """Return whether a text is prose: three words at least, or two with a capital or a stop.

    Ids of two words are lower case and have no stop.
    """
    words = [word for word in text.split() if any(letter.isalpha() for letter in word)]
    return len(words) > 2 or (len(words) == 2 and (text[:1].isupper() or text[-1:] in ".:;,"))


def is_prose_fragment(text: str) -> bool:
    """Return whether only prose would be asked for a text: a word with a space, or a full stop."""
    return text == ". " or (" " in text and any(letter.isalpha() for letter in text))


def sentence_branches(root: Path = ROOT) -> list[Finding]:
    """Return the places that compare a text with a sentence, or look for one in it."""
    constants = {module.name: _text_constants(module.tree) for module in modules(root)}
    findings = []
    for module in modules(root):
        known = dict(constants[module.name])
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ImportFrom):
                theirs = constants.get(node.module or "", {})
                known |= {
                    alias.asname or alias.name: theirs[alias.name]
                    for alias in node.names
                    if alias.name in theirs
                }
        for node in ast.walk(module.tree):
            is_prose = is_prose_fragment if isinstance(node, ast.Call) else is_sentence
            for text in filter(is_prose, _compared_texts(node, known)):
                place = f"{module.path}:{getattr(node, 'lineno', 0)}"
                findings.append(Finding(place, repr(text)))
    return findings + list(_script_sentence_branches(root))


def sentence_branches_inside(root: Path = ROOT) -> list[Finding]:
    """Return the branches on a sentence that are not at a listed edge."""
    return [each for each in sentence_branches(root) if not _is_at(TEXT_EDGES, each)]


def _text_constants(tree: ast.Module) -> dict[str, str]:
    """Return the module-level names that are bound to a text."""
    texts: dict[str, str] = {}
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            texts |= {each.id: value.value for each in targets if isinstance(each, ast.Name)}
    return texts


def _compared_texts(node: ast.AST, constants: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts that an expression compares with, or looks for."""
    if isinstance(node, ast.Compare):
        equalities = (ast.Eq, ast.NotEq, ast.In, ast.NotIn)
        if any(isinstance(operator, equalities) for operator in node.ops):
            for side in (node.left, *node.comparators):
                yield from _texts_of(side, constants)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in _TEXT_METHODS:
            for argument in node.args:
                yield from _texts_of(argument, constants)
    elif isinstance(node, ast.MatchValue):
        yield from _texts_of(node.value, constants)


def _texts_of(node: ast.AST, constants: Mapping[str, str]) -> Iterator[str]:
    """Yield the texts that an expression stands for, those in a tuple, list or set too."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and node.id in constants:
        yield constants[node.id]
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for each in node.elts:
            yield from _texts_of(each, constants)


def _script_sentence_branches(root: Path) -> Iterator[Finding]:
    """Yield the places in JavaScript that compare with a sentence."""
    for path in sorted(path for folder in PACKAGES for path in (root / folder).rglob("*.js")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for match in (*_JS_METHODS.finditer(line), *_JS_COMPARISONS.finditer(line)):
                if is_sentence(match[2]):
                    yield Finding(f"{path.relative_to(root)}:{number}", repr(match[2]))


def import_circles(root: Path = ROOT) -> list[Finding]:
    """Return the groups of modules that import each other, for types alone or in a function too."""
    known = {module.name: module for module in modules(root)}
    graph = {name: sorted(_imported_modules(module, known)) for name, module in known.items()}
    groups = (group for group in _strong_components(graph) if len(group) > 1)
    return [Finding(group[0], " <-> ".join(group)) for group in sorted(map(sorted, groups))]


def _imported_modules(module: Module, known: Mapping[str, Module]) -> set[str]:
    """Return the modules of the source that a module names in its imports."""
    names = (name if name in known else name.rpartition(".")[0] for name in imported_names(module))
    return {name for name in names if name in known and name != module.name}


def _strong_components(graph: Mapping[str, list[str]]) -> list[list[str]]:
    """Return the strongly connected components of a graph, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    components = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], order[other])
        if lowest[name] == order[name]:
            place = stack.index(name)
            components.append(stack[place:])
            del stack[place:]

    for name in graph:
        if name not in order:
            visit(name)
    return components


def upward_imports(root: Path = ROOT) -> list[Finding]:
    """Return the imports of a higher level.

    The library imports no page; a part of it nothing above its level; what pages share no page.
    """
    parts = _library_parts(root)
    return [
        Finding(module.path, name)
        for module in modules(root)
        for name in sorted(_forbidden_imports(module, parts))
    ]


def _forbidden_imports(module: Module, parts: set[str]) -> set[str]:
    """Return the imports that a module must not have.

    Args:
        module: The module.
        parts: All parts of the library; what else is imported from its root is its public face,
            which is above all of them.
    """
    names = imported_names(module)
    if module.path.startswith("pages/"):
        tops = {".".join(name.split(".")[:2]) for name in names if name.startswith("pages.")}
        return tops - {"pages.ui"} if module.path.startswith("pages/ui/") else set()
    mine = library_part(module)
    above = {part for level in LEVELS[level_of(mine) + 1 :] for part in level}
    beside = set(PARTS) - {mine} if mine in PARTS else set()
    face = imported_parts(module) - parts - {"__version__"} if mine not in ENDS else set()
    pages = {name.partition(".")[0] for name in names} & {"streamlit", "pages", "app", "tests"}
    return pages | face | (imported_parts(module) & (above | beside))


def level_of(part: str) -> int:
    """Return the level of a part of the library; the highest where it is on none."""
    return next((place for place, parts in enumerate(LEVELS) if part in parts), len(LEVELS))


def parts_without_level(root: Path = ROOT) -> list[Finding]:
    """Return the parts of the library that are on no level."""
    unknown = [part for part in _library_parts(root) if level_of(part) == len(LEVELS)]
    return [Finding(f"effcore/{part}", "on no level") for part in sorted(unknown)]


def _library_parts(root: Path) -> set[str]:
    return {library_part(each) for each in modules(root) if each.name.startswith("effcore")}


def untyped_mappings(root: Path = ROOT) -> list[Finding]:
    """Return the mappings of names to values of any type, at the edges too."""
    findings = []
    for module in modules(root):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Subscript) and _is_untyped_mapping(node):
                findings.append(Finding(f"{module.path}:{node.lineno}", ast.unparse(node)))
    return findings


def _is_untyped_mapping(node: ast.Subscript) -> bool:
    kind = node.value.id if isinstance(node.value, ast.Name) else ""
    names = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
    return (
        kind in ("dict", "Mapping", "MutableMapping")
        and len(names) == 2
        and ast.unparse(names[0]) == "str"
        and ast.unparse(names[1]) in ("Any", "object")
    )


def untyped_mappings_inside(root: Path = ROOT) -> list[Finding]:
    """Return the mappings of names to values of any type that are not at a listed edge."""
    return [each for each in untyped_mappings(root) if not _is_at(MAPPING_EDGES, each)]


def _is_at(edges: Mapping[str, str], finding: Finding) -> bool:
    return finding.place.split(":")[0] in edges


def qualified_names(root: Path = ROOT) -> list[str]:
    """Return the functions, methods and classes of the library and the pages, sorted."""
    names = set()
    for module in modules(root):
        for node in module.tree.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            names.add(f"{module.name}.{node.name}")
            if isinstance(node, ast.ClassDef):
                names |= {
                    f"{module.name}.{node.name}.{each.name}"
                    for each in node.body
                    if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not each.name.startswith("__")
                }
    return sorted(names)


def sample_names(seed: int, count: int = 20, root: Path = ROOT) -> list[str]:
    """Return names at random, the same for the same seed and source."""
    return random.Random(seed).sample(qualified_names(root), count)


CHECKS = {
    "class names used twice": duplicate_classes,
    "branches on a sentence inside": sentence_branches_inside,
    "branches on a sentence in all": sentence_branches,
    "import circles": import_circles,
    "upward imports": upward_imports,
    "parts on no level": parts_without_level,
    "dict[str, Any] inside": untyped_mappings_inside,
    "dict[str, Any] in all": untyped_mappings,
}


def main() -> None:
    """Print the counts of a checkout, or a sample of its names."""
    if __doc__ is None:
        raise SystemExit("docstrings are needed")
    parser = argparse.ArgumentParser("python -m tests.structure", description=__doc__)
    parser.add_argument("what", nargs="?", default=str(ROOT), help="a checkout, or 'names'")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample of names")
    parser.add_argument("--count", type=int, default=20, help="how many names")
    parser.add_argument("--list", action="store_true", help="print each place too")
    asked = parser.parse_args()
    if asked.what == "names":
        click.echo("\n".join(sample_names(asked.seed, asked.count)))
        return
    root = Path(asked.what).resolve()
    if not (root / PACKAGES[0]).is_dir():
        parser.error(f"{asked.what} is no checkout: it has no folder {PACKAGES[0]}")
    for title, check in CHECKS.items():
        findings = check(root)
        click.echo(f"{len(findings):5} {title}")
        if asked.list:
            click.echo("".join(f"        {each}\n" for each in findings), nl=False)


if __name__ == "__main__":
    main()
