from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from effcore.registry import Registry, UnknownNameError, suggest_nearest

HEAD = "from zoo import ANIMALS\n"
CLASS = """
@ANIMALS.add
class {name}:
    id = "{id}"
    title = "{name}"
    summary = "An animal."
    rank = {rank}
"""


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A package with one module for each animal, and its registry."""
    package = tmp_path / "zoo"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from effcore.registry import Registry\nANIMALS = Registry('animal', 'zoo')\n"
    )
    for name, rank in (("Zebra", 50), ("Ant", 50), ("Lion", 0)):
        text = HEAD + CLASS.format(name=name, id=name.lower(), rank=rank)
        (package / f"{name.lower()}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    import zoo  # type: ignore[import-not-found]

    yield zoo
    for name in [m for m in sys.modules if m.partition(".")[0] == "zoo"]:
        del sys.modules[name]


def test_modules_are_discovered_and_listed_by_rank_then_name(zoo: Any) -> None:
    assert zoo.ANIMALS.ids() == ["lion", "ant", "zebra"]
    assert [cls.__name__ for cls in zoo.ANIMALS] == ["Lion", "Ant", "Zebra"]
    assert zoo.ANIMALS.get("ant").title == "Ant"


def test_a_file_added_later_is_found(zoo: Any, tmp_path: Path) -> None:
    assert "bee" not in zoo.ANIMALS.ids()
    (tmp_path / "zoo" / "bee.py").write_text(HEAD + CLASS.format(name="Bee", id="bee", rank=1))
    assert zoo.ANIMALS.ids() == ["lion", "bee", "ant", "zebra"]


def test_an_unknown_name_suggests_the_nearest_and_lists_all(zoo: Any) -> None:
    with pytest.raises(UnknownNameError) as caught:
        zoo.ANIMALS.get("zebbra")
    assert str(caught.value) == (
        "unknown animal 'zebbra': did you mean 'zebra'? Allowed: lion, ant, zebra."
    )


def test_a_name_near_nothing_gets_the_list_alone() -> None:
    assert suggest_nearest("qqq", ["lion", "ant"]) == "Allowed: lion, ant."


def test_an_id_is_taken_once(zoo: Any) -> None:
    class Impostor:
        id = "ant"
        title = "Impostor"
        summary = "Not an ant."

    zoo.ANIMALS.discover()
    with pytest.raises(ValueError, match=r"animal id 'ant' is taken by Ant; give .*Impostor"):
        zoo.ANIMALS.add(Impostor)
    assert zoo.ANIMALS.get("ant").__name__ == "Ant"


def test_the_same_class_again_replaces_itself() -> None:
    def make() -> type[Any]:
        class Cat:
            id = "cat"
            title = "Cat"
            summary = "A cat."

        return Cat

    registry: Registry[Any] = Registry("animal", "effcore.policies.update")
    first, again = make(), make()
    assert registry.add(first) is first
    registry.add(again)
    assert registry.get("cat") is again


def test_a_removed_item_is_gone_and_comes_back_when_its_module_is_imported_anew(zoo: Any) -> None:
    assert "ant" in zoo.ANIMALS.ids()
    zoo.ANIMALS.remove("ant")
    del sys.modules["zoo.ant"]
    assert "ant" in zoo.ANIMALS.ids()
