"""The Energy page with made-up runs, and what is read off it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from streamlit.testing.v1 import AppTest

from effcore.config import resolve
from effcore.energy.sources.survey import SourceStatus
from effcore.records import Energy, EnergyQuality, RunEnd, RunStatus
from effcore.runs.manager import shared_run_manager
from effcore.store import new_run_id
from tests.pages.visit import SHORT, visit

PAGE = "energy.py"
METERED = Energy(
    7200.0, 7000.0, 7400.0, 60.0, EnergyQuality.MEASURED, "a counter", "GPU board", ("whole board",)
)
ESTIMATED = replace(METERED, joules=None, quality=EnergyQuality.ESTIMATED, scope="CPU")
NOTHING = Energy(
    None, None, None, 60.0, EnergyQuality.UNAVAILABLE, "no meter", "nothing", ("No TDP",)
)
HOSTILE = "![x](http://x/y.png) <b>"
END = RunEnd(
    RunStatus.FINISHED, "", "accuracy", 0.95, 4, 4000, 2000, 6e9, 1.5e10, 60.0, None, {}, 1e10
)  # fmt: skip
COUNTER = SourceStatus(
    "nvml", "Board counter", EnergyQuality.MEASURED, True, "", "", "GPU board", "NVML"
)
MODEL = SourceStatus("cpu", "CPU model", EnergyQuality.ESTIMATED, True, "", "", "CPU", "a model")
DENIED = SourceStatus(
    "rapl", "RAPL", EnergyQuality.MEASURED, False, "no permission", "add a rule", "", ""
)


def stored(energy: Energy = METERED, selection: str = "auto", **changes: Any) -> str:
    """Put a finished run into the store without training it."""
    store, run_id = shared_run_manager().store, new_run_id()
    reference = changes.pop("reference", None)
    config = resolve({**SHORT, "selection": selection, "seed": changes.pop("seed", 0)})
    writer = store.create_run(config, run_id=run_id, reference_id=reference)
    writer.finish(replace(END, **changes), energy)
    writer.close()
    return run_id


def opened(**query: str) -> AppTest:
    """Open the page as by its address."""
    return visit(PAGE, **query)


def words(app: AppTest) -> str:
    """Everything that is written on the page."""
    parts = [*app.markdown, *app.caption, *app.code, *app.info, *app.error, *app.warning]
    tables = [table.value.reset_index().to_string() for table in app.table]
    return "\n".join([*(str(part.value) for part in parts), *tables]).replace("\\", "")


def table(app: AppTest, column: str) -> dict[str, str]:
    """The table that has a column, by its first one."""
    found = {str(n).replace("\\", ""): t.value[n] for t in app.table for n in t.value.columns}
    (rows,) = (found[name] for name in found if name.startswith(column))
    return as_read(rows)


def amounts(app: AppTest, place: int) -> dict[str, str]:
    """What stands of the run's energy (0) or of its impact (1)."""
    found = [t.value for t in app.table if list(t.value.columns) == ["Amount"]]
    return as_read(found[place]["Amount"])


def as_read(column: Any) -> dict[str, str]:
    """A table's column as a person reads it, by the name of each row."""
    return {str(name).replace("\\", ""): text.replace("\\", "") for name, text in column.items()}
