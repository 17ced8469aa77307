"""A selection policy is one new file: the page, the command line and the contracts see it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

import effcore.policies.selection
from effcore.__main__ import main
from effcore.config import ConfigError, resolve
from effcore.policies.selection.base import SELECTIONS
from effcore.testing import check_selection_policy
from effcore.testing.tiny_task import tiny_task
from tests.tiny_runs import ended, tiny_config

PAGE = Path(__file__).parents[1] / "pages" / "_main.py"
MODULE = "every_other"
USUAL = SELECTIONS.ids()
FILE = '''
"""Every n-th example in each pass, the n moving on with the pass."""

from dataclasses import dataclass

import torch

from effcore.knobs import knob
from effcore.policies.selection.base import SELECTIONS, Decision, ExampleState, SelectionPolicy


@SELECTIONS.add
@dataclass(frozen=True)
class EveryOther(SelectionPolicy):
    """Draw one example in n, another one in each pass, but all that were never seen."""

    id = "every-other"
    title = "Every other"
    summary = "Trains on one example in so many, another one in each pass."
    biased = True

    one_in: int = knob(2, lo=1, hi=9, step=1, label="One in", help="Draws one in so many.")

    def inclusion_probabilities(self, pool: ExampleState) -> Decision:
        index_N = torch.arange(len(pool.last_loss_N), device=pool.last_loss_N.device)
        turn_N = (index_N + pool.epoch_index) % self.one_in == 0
        return Decision((turn_N | (pool.last_loss_N == torch.inf)).float())
'''


@pytest.fixture
def new_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Put one file beside the policies that come with Effcore, and leave no trace of it."""
    (tmp_path / f"{MODULE}.py").write_text(FILE)
    path = [*effcore.policies.selection.__path__, str(tmp_path)]
    monkeypatch.setattr(effcore.policies.selection, "__path__", path)
    yield "every-other"
    SELECTIONS.remove("every-other")
    del sys.modules[f"effcore.policies.selection.{MODULE}"]
    delattr(effcore.policies.selection, MODULE)


def test_the_registry_and_the_contract_see_it(new_policy: str) -> None:
    assert SELECTIONS.ids() == [*USUAL, new_policy]
    check_selection_policy(SELECTIONS.get(new_policy))


def test_the_command_line_offers_it_and_its_knob(new_policy: str) -> None:
    listed = json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)
    mine = listed["selection"][-1]
    assert (mine["id"], mine["knobs"][0]["option"]) == (new_policy, "--one-in")
    assert "--one-in" in CliRunner().invoke(main, ["run", "--help"]).stdout
    words = "run --task tiny --device cpu --epochs 3 --policy every-other --one-in 4 --json"
    with tiny_task():
        result = CliRunner().invoke(main, words.split())
    record = json.loads(result.stdout)
    assert (record["selection"], record["status"]) == (new_policy, "finished")
    # All once, then a quarter twice, and what was carried over unseen comes once more.
    assert 300 - 16 < record["examples_trained"] <= 300 + 8


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
    with pytest.raises(ConfigError, match="unknown selection policy 'every-other'"):
        resolve({"selection": "every-other"})
