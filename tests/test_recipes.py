"""The recipes of the documents: a policy, task, source or page is one new file, as printed."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

import effcore.energy.sources
import effcore.policies.selection
import effcore.policies.update
import effcore.tasks
from effcore.__main__ import main
from effcore.config import ConfigError, resolve
from effcore.energy.sources.base import SOURCES, EnergyUnavailable
from effcore.policies.selection.base import SELECTIONS
from effcore.policies.update.base import UPDATES
from effcore.tasks.base import TASKS
from effcore.testing import check_selection_policy, check_task, check_update_policy
from effcore.testing.tiny_task import tiny_task
from pages.ui.page_files import further_page_files
from tests.tiny_runs import ended, tiny_config

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "pages" / "_main.py"
USUAL = SELECTIONS.ids()
_RECIPE = re.compile(r"Save this as\s`([\w/.]+)`\..*?```python\n(.+?)```", re.DOTALL)


def recipes(document: str) -> dict[str, str]:
    """Return the files that a document tells the reader to save, by path."""
    return dict(_RECIPE.findall((ROOT / document).read_text(encoding="utf-8")))


RECIPES = {
    path: text
    for document in sorted([*(ROOT / "effcore").rglob("*.md"), ROOT / "pages" / "README.md"])
    for path, text in recipes(document.relative_to(ROOT).as_posix()).items()
}
#: Ids that the recipes' files register. Tests add a suffix, so that they also pass in a checkout in
#: which somebody has followed the recipes.
IDS = ("every-other", "skip-every-nth", "rings", "battery")


def run_printed_command(document: str) -> None:
    """Run the training that a document tells the reader to try, for one epoch."""
    text = (ROOT / document).read_text(encoding="utf-8")
    (words,) = re.findall(r"^python -m effcore (run .+)$", text, re.MULTILINE)
    for registered in IDS:
        words = re.sub(rf"\b{registered}\b", f"{registered}-tried", words)
    result = CliRunner().invoke(main, [*words.split(), "--device", "cpu", "--epochs", "1"])
    assert result.exit_code == 0, result.output


@contextmanager
def saved(path: str, package: ModuleType, folder: Path) -> Iterator[ModuleType]:
    """Put a recipe's file beside those of a package, and leave no trace of it."""
    name, text = f"{Path(path).stem}_tried", RECIPES[path]
    for registered in IDS:
        text = text.replace(f'id = "{registered}"', f'id = "{registered}-tried"')
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "__path__", [*package.__path__, str(folder)])
        module = importlib.import_module(f"{package.__name__}.{name}")
        try:
            yield module
        finally:
            del sys.modules[module.__name__]
            delattr(package, name)


def test_there_is_a_recipe_of_each_kind() -> None:
    assert set(RECIPES) == {
        "effcore/policies/selection/every_other.py",
        "effcore/policies/update/skip_every_nth.py",
        "effcore/tasks/rings.py",
        "effcore/energy/sources/battery.py",
        "pages/newest_runs.py",
    }


@pytest.fixture
def new_policy(tmp_path: Path) -> Iterator[str]:
    path = "effcore/policies/selection/every_other.py"
    with saved(path, effcore.policies.selection, tmp_path):
        yield "every-other-tried"
        SELECTIONS.remove("every-other-tried")


def test_the_registry_and_the_contract_see_it(new_policy: str) -> None:
    assert SELECTIONS.ids() == [*USUAL, new_policy]
    check_selection_policy(SELECTIONS.get(new_policy))


def test_the_command_line_offers_it_and_its_knob(new_policy: str) -> None:
    listed = json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)
    mine = listed["selection"][-1]
    assert (mine["id"], mine["knobs"][0]["option"]) == (new_policy, "--one-in")
    assert "--one-in" in CliRunner().invoke(main, ["run", "--help"]).stdout
    words = "run --task tiny --device cpu --epochs 3 --policy every-other-tried --one-in 4 --json"
    with tiny_task():
        result = CliRunner().invoke(main, words.split())
    record = json.loads(result.stdout)
    assert (record["selection"], record["status"]) == (new_policy, "finished")
    # All once, then a quarter twice, and what was carried over unseen comes once more.
    assert 300 - 16 < record["examples_trained"] <= 300 + 8


def test_the_printed_command_trains(new_policy: str) -> None:
    run_printed_command("effcore/policies/README.md")


def test_it_trains_repeatably(new_policy: str) -> None:
    with tiny_task():
        config = tiny_config(selection=new_policy, one_in=3)
        assert ended(config) == ended(config)


def test_the_page_offers_it_and_its_knob(new_policy: str) -> None:
    page = AppTest.from_file(str(PAGE), default_timeout=60).run()
    assert not page.exception
    choice = page.selectbox(key="set_selection")
    assert "Every other" in choice.options
    assert "One in" not in labels(page)
    choice.set_value(new_policy).run()
    assert not page.exception
    assert "One in" in labels(page)
    assert page.number_input(key="set_one_in").value == 2


def labels(page: AppTest) -> list[str]:
    return [widget.label for widget in page.number_input]


def test_it_leaves_no_trace() -> None:
    assert SELECTIONS.ids() == USUAL
    with pytest.raises(ConfigError, match="unknown selection policy 'every-other-tried'"):
        resolve({"selection": "every-other-tried"})


# The other kinds --------------------------------------------------------------------------


def test_an_update_policy(tmp_path: Path) -> None:
    with saved("effcore/policies/update/skip_every_nth.py", effcore.policies.update, tmp_path):
        check_update_policy(UPDATES.get("skip-every-nth-tried"))
        with tiny_task():
            end = ended(
                tiny_config(selection="dense", update="skip-every-nth-tried", skip_one_in=2)
            )
        assert end.skipped_compute_frac == pytest.approx(0.4, abs=0.11)
        UPDATES.remove("skip-every-nth-tried")


def test_a_task(tmp_path: Path) -> None:
    with saved("effcore/tasks/rings.py", effcore.tasks, tmp_path):
        check_task(TASKS.get("rings-tried"))
        words = "run --task rings-tried --device cpu --policy confident-skip --epochs 6 --json"
        record = json.loads(CliRunner().invoke(main, words.split()).stdout.splitlines()[-1])
        assert record["metric"] > 0.9
        run_printed_command("effcore/tasks/README.md")
        TASKS.remove("rings-tried")


def test_an_energy_source(tmp_path: Path) -> None:
    battery = tmp_path / "BAT0"
    with saved("effcore/energy/sources/battery.py", effcore.energy.sources, tmp_path) as module:
        source_class = SOURCES.get("battery-tried")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_FOLDER", battery)
            with pytest.raises(EnergyUnavailable, match="there is no battery"):
                source_class.open("cpu")
            with pytest.raises(EnergyUnavailable, match="does not cover cuda"):
                source_class.open("cuda:0")
            battery.mkdir()
            (battery / "status").write_text("Discharging\n")
            (battery / "power_now").write_text("12500000\n")
            source = source_class.open("cpu")
            first, second = source.read(), source.read()
            assert first.power_w == second.power_w == 12.5
            gained, elapsed = second.energy_j - first.energy_j, second.t_mono - first.t_mono
            assert gained == pytest.approx(12.5 * elapsed)
            (battery / "power_now").write_text("no number")
            with pytest.raises(EnergyUnavailable, match="did not answer"):
                source.read()
        SOURCES.remove("battery-tried")


def test_a_page(tmp_path: Path) -> None:
    file = tmp_path / "newest_runs.py"
    file.write_text(RECIPES["pages/newest_runs.py"], encoding="utf-8")
    page = AppTest.from_file(str(file), default_timeout=60).run()
    assert not page.exception
    assert page.title[0].value == "Newest runs"
    (tmp_path / "_main.py").touch()
    assert further_page_files({"live"}, tmp_path) == [file]
    assert further_page_files({"newest_runs"}, tmp_path) == []


def test_the_app_has_no_page_that_its_frame_does_not_know() -> None:
    page = AppTest.from_file(str(PAGE), default_timeout=60).run()
    assert not page.exception
    known = set(re.findall(r'st\.Page\(\s*"(\w+)\.py"', PAGE.read_text(encoding="utf-8")))
    further = {f"pages/{file.name}" for file in further_page_files(known, PAGE.parent)}
    assert further <= set(RECIPES), "only a page that somebody made by the recipe"
