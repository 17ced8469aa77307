from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pynvml
import pytest

from effcore.energy.sources.base import SHARED_USE_UNKNOWN, SharedUse
from effcore.energy.sources.nvml import NvmlSource, shared_use_from_processes
from tests.energy.fake_cuda import Cuda
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.nvml_runs import EVERY_CODE, constant

OWN, FOREIGN, HOST = os.getpid(), 77, 48_211
ALONE = SharedUse(False, "")
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
OLD_PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v2"
UTILISATION = "nvmlDeviceGetProcessUtilization"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    monkeypatch.setattr(psutil, "pid_exists", lambda pid: True)  # no container
    return FakeNvml(constant)


@pytest.fixture
def cuda(fake: FakeNvml) -> Iterator[Cuda]:
    with install(fake) as cuda:
        cuda.initialised = True
        yield cuda


@pytest.fixture
def source(fake: FakeNvml, cuda: Cuda) -> Iterator[NvmlSource]:
    source = NvmlSource.open("cuda")
    yield source
    source.close()


def test_a_board_to_itself(fake: FakeNvml, source: NvmlSource) -> None:
    fake.pids, fake.samples = [OWN], [(OWN, 1_000_000, 95)]
    assert source.shared_use() == ALONE


def test_another_that_computes_is_named(fake: FakeNvml, source: NvmlSource) -> None:
    fake.pids = [OWN, FOREIGN]
    tenancy = source.shared_use()
    assert tenancy is not None
    assert tenancy.contended
    assert tenancy.description.startswith("process 77 computed on this board too")


@pytest.mark.parametrize(("percent", "contended"), [(1, False), (2, False), (3, True)])
def test_another_that_takes_sm_time_counts_above_a_share(
    percent: int, contended: bool, fake: FakeNvml, source: NvmlSource
) -> None:
    fake.pids = [OWN]  # it draws, say, and is not in the list of those that compute
    fake.samples = [(OWN, 10, 90), (FOREIGN, 10, percent), (FOREIGN, 20, percent)]
    tenancy = source.shared_use()
    assert tenancy is not None
    assert tenancy.contended is contended
    assert ("process 77 took 3% of the SM time" in tenancy.description) is contended


def test_what_was_before_the_run_does_not_count(fake: FakeNvml, cuda: Cuda) -> None:
    fake.samples = [(FOREIGN, 10, 99)]
    source = NvmlSource.open("cuda")
    fake.pids = [OWN]
    assert source.shared_use() == ALONE
    fake.samples = [(FOREIGN, 10, 99), (FOREIGN, 11, 99)]
    tenancy = source.shared_use()
    assert tenancy is not None
    assert tenancy.contended
    source.close()


def test_before_this_process_uses_the_gpu_any_other_is_foreign(
    fake: FakeNvml, cuda: Cuda, source: NvmlSource
) -> None:
    cuda.initialised = False
    assert source.shared_use() == ALONE
    fake.pids = [FOREIGN]
    tenancy = source.shared_use()
    assert tenancy is not None
    assert tenancy.contended


def test_no_samples_raise_success_which_is_none(fake: FakeNvml, source: NvmlSource) -> None:
    with pytest.raises(pynvml.NVMLError) as raised:
        pynvml.nvmlDeviceGetProcessUtilization(source._handle, 0)
    assert raised.value.value == pynvml.NVML_SUCCESS
    fake.pids = [OWN]
    assert source.shared_use() == ALONE


def shared_use_where(codes: dict[str, int]) -> SharedUse | None:
    """Return the use of a board to itself whose driver answers some calls with an error."""
    board = FakeNvml(constant)
    with install(board) as cuda:
        cuda.initialised = True
        source = NvmlSource.open("cuda")
        board.pids, board.samples = [OWN], [(OWN, 10, 90)]
        board.codes = codes
        use = source.shared_use()
        source.close()
        return use


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("call", [PROCESSES, UTILISATION])
def test_one_list_is_enough(call: str) -> None:
    for code in EVERY_CODE:
        codes = {call: code, OLD_PROCESSES: code if call == PROCESSES else 0}
        assert shared_use_where(codes) == ALONE, code


@pytest.mark.usefixtures("fake")
def test_without_either_it_is_said_that_nothing_is_known() -> None:
    for code in EVERY_CODE:
        codes = dict.fromkeys((PROCESSES, OLD_PROCESSES, UTILISATION), code)
        use = shared_use_where(codes)
        assert use is not None, code
        assert not use.contended
        assert use.description.startswith(SHARED_USE_UNKNOWN)


def test_an_old_driver_has_an_older_list(fake: FakeNvml, source: NvmlSource) -> None:
    fake.absent, fake.pids = {PROCESSES}, [OWN, FOREIGN]
    tenancy = source.shared_use()
    assert tenancy is not None
    assert tenancy.contended


@pytest.mark.parametrize(
    ("pids", "sm_fracs", "contended", "words"),
    [
        ({HOST}, {HOST: 0.9}, False, SHARED_USE_UNKNOWN),  # the host's number for this process
        (set(), {}, False, SHARED_USE_UNKNOWN),  # a container that shows nothing
        (set(), {HOST: 0.9}, False, SHARED_USE_UNKNOWN),
        ({OWN}, {HOST: 0.9}, False, ""),  # one list by our number, the other by the host's
        ({OWN}, {HOST: 0.9, FOREIGN: 0.1}, True, "process 77 took 10%"),
        ({HOST, FOREIGN}, {HOST: 0.9}, True, "computed on this board too"),
        ({HOST, FOREIGN}, None, True, "computed on this board too"),
        ({HOST, HOST + 1}, {HOST: 0.9}, True, "computed on this board too"),
        ({OWN}, {FOREIGN: 0.9}, True, "process 77 took 90%"),  # ours was idle
        (None, {OWN: 0.9}, False, ""),
        (None, {OWN: 0.9, FOREIGN: 0.03}, True, "process 77 took 3%"),
        ({OWN, FOREIGN, 78}, {}, True, "processes 77, 78 computed"),
        ({OWN}, {OWN: 0.9, FOREIGN: 0.015, 78: 0.015}, True, "processes 77, 78 took 3%"),
        ({OWN}, {OWN: 0.9, FOREIGN: 0.01, 78: 0.01}, False, ""),
        (None, None, False, SHARED_USE_UNKNOWN),
    ],
)  # fmt: skip
def test_a_container_that_renumbers_is_seen_through(
    pids: set[int] | None, sm_fracs: dict[int, float] | None, contended: bool, words: str
) -> None:
    tenancy = shared_use_from_processes(
        OWN, True, pids, sm_fracs, pid_exists=lambda pid: pid < HOST or pid == OWN
    )
    assert tenancy.contended is contended
    assert words in tenancy.description
    assert bool(tenancy.description) is bool(words)
