"""The power table agrees with the verdicts on simulated data."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench.error_rates import power_table, power_table_text
from effcore.studies.verdict import judge_arms


@pytest.mark.parametrize(("seeds", "scatter"), [(6, 0.5), (10, 1.0)])
def test_the_table_agrees_with_the_verdicts(seeds: int, scatter: float) -> None:
    (row,) = power_table([seeds], [scatter], [0.0])
    rng, margin, count = np.random.default_rng(0), 0.5, 500
    shown = {"noninferior": 0, "superior": 0}
    for _ in range(count):
        full = rng.normal(0.0, 1.0, seeds)
        arm = full + rng.normal(0.0, scatter * margin, seeds)
        # Paired with the arm, for its difference to have that scatter and be one margin.
        matched = arm - margin - rng.normal(0.0, scatter * margin, seeds)
        verdict = judge_arms({"mine": arm.tolist()}, full.tolist(), matched.tolist(), margin)[0]
        shown["noninferior"] += verdict.noninferior is True
        shown["superior"] += verdict.superior is True
    three = 3 * np.sqrt(0.25 / count)
    assert shown["noninferior"] / count == pytest.approx(row.noninferior[0], abs=three)
    assert shown["superior"] / count == pytest.approx(row.superior, abs=three)


def test_more_seeds_and_less_scatter_show_more() -> None:
    rows = {(row.seeds, row.scatter): row for row in power_table()}
    assert rows[20, 1.0].noninferior[1] > rows[6, 1.0].noninferior[1]
    assert rows[6, 0.25].superior > rows[6, 2.0].superior
    assert power_table_text(list(rows.values())).count("\n") == len(rows) + 1


def test_the_command_prints_the_table() -> None:
    result = CliRunner().invoke(main, ["bench", "power", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"][0]["seeds"] == 6
