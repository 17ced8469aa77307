"""The planted faults can be planted; a sample of them is noticed by the tests named beside."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.mutant_faults import FAULTS, Fault
from tests.mutants import Result, StaleFaultError, faulty_source, run_faults, sampled_faults

ROOT = Path(__file__).parents[1]
ALL = [fault for faults in FAULTS.values() for fault in faults]
#: Those that survived where they were first tried.
SURVIVORS = (
    "not inferior decided by the mean",
    "better decided by the mean",
    "a policy's learning-rate factor (lr_multiplier) is ignored",
)


def test_every_fault_can_be_planted() -> None:
    problems = []
    for fault in ALL:
        try:
            faulty_source(fault)
        except StaleFaultError as error:
            problems.append(str(error))
        for test in fault.tests.split():
            file, _, name = test.partition("::")
            text = (ROOT / file).read_text("utf-8") if (ROOT / file).is_file() else ""
            if not text or f"def {name.partition('[')[0]}(" not in text and name:
                problems.append(f"{fault.name}: there is no {test}")
    assert problems == []


def test_there_are_enough_of_each_kind() -> None:
    names = [fault.name for fault in ALL]
    assert len(set(names)) == len(names) >= 60
    assert set(SURVIVORS) <= set(names)
    for area in ("judge", "ledger", "sampling", "budget", "energy", "checkpoint"):
        assert len(FAULTS[area]) >= 10, area
    sample = sampled_faults(12)
    assert len(set(sample)) == 12
    assert all(len(set(sample) & set(faults)) == 2 for faults in FAULTS.values())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"file": "effcore/none.py"}, "there is no effcore/none.py"),
        ({"old": "no such text"}, "0 times, expected once"),
        ({"old": "return"}, "times, expected once"),
        ({"old": "matched.p <", "occurrence": 2}, "1 times, expected 2 times or more"),
        ({"old": "matched.p <", "new": "matched.p < <"}, "does not parse"),
        ({"old": "matched.p <", "new": "matched.p  <"}, "the program in .* is the same with it"),
    ],
)
def test_a_stale_fault_is_refused(change: dict[str, str], match: str) -> None:
    fault = Fault("odd", "effcore/studies/verdict.py", "matched.p <", "matched.p >", "tests")
    assert "matched.p >" in faulty_source(fault)
    with pytest.raises(StaleFaultError, match=match):
        faulty_source(dataclasses.replace(fault, **change))  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_sample_of_the_faults_is_noticed() -> None:
    reports = run_faults(sampled_faults(12), jobs=1)
    alive = [(report.fault.name, report.detail) for report in reports
             if report.result is not Result.KILLED]  # fmt: skip
    assert alive == []


@pytest.mark.slow
def test_a_fault_that_its_tests_do_not_see_survives() -> None:
    unseen = dataclasses.replace(
        ALL[0], tests="tests/test_mutants.py::test_there_are_enough_of_each_kind"
    )
    nowhere = dataclasses.replace(unseen, file="effcore/none.py")
    assert [report.result for report in run_faults([unseen], jobs=1)] == [Result.SURVIVED]
    with pytest.raises(StaleFaultError):
        run_faults([nowhere])
