"""Which board is read: by UUID, whatever CUDA leaves visible, and never a slice."""

from __future__ import annotations

from collections.abc import Iterator

import pynvml
import pytest
import torch

from effcore.energy.sources.base import EnergyUnavailable
from effcore.energy.sources.nvml import NvmlSource, board_uuid
from tests.energy.fake_nvml import (
    OTHER_BOARD_J,
    OTHER_UUID,
    SLICE_UUID,
    UUID,
    FakeNvml,
    install,
)
from tests.energy.nvml_runs import constant

FAST, SLOW = f"GPU-{UUID}", f"GPU-{OTHER_UUID}"
#: What CUDA calls the boards, fastest first: the other way round than NVML.
FORMS = [
    (None, [FAST, SLOW]),
    ("0", [FAST]),
    ("1", [SLOW]),
    ("0,1", [FAST, SLOW]),
    ("1,0", [SLOW, FAST]),
    (" 1 , 0 ", [SLOW, FAST]),
    ("1,-1,0", [SLOW]),
    ("1,7,0", [SLOW]),
    (FAST, [FAST]),
    (SLOW, [SLOW]),
    (f"{SLOW},{FAST}", [SLOW, FAST]),
    (SLOW[:-1], []),  # both boards begin like this
    (f"{FAST[:-1]}a", [FAST]),
    (f"1,{FAST}", [SLOW, FAST]),
    ("GPU-no,0", []),
    ("", []),
    ("-1", []),
    ("0,0", []),
    ("NoDevFiles", []),
]


@pytest.fixture
def fake() -> Iterator[FakeNvml]:
    nvml = FakeNvml(constant)
    with install(nvml):
        yield nvml


@pytest.mark.parametrize(("form", "boards"), FORMS)
def test_the_board_is_the_one_that_torch_uses(
    form: str | None, boards: list[str], fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", form)
    for index, uuid in enumerate(boards):
        for device in [f"cuda:{index}", *(["cuda"] if index == 0 else [])]:
            source = NvmlSource.open(device)
            assert source.device_uuid == uuid
            assert source.read().energy_j == (7000.0 if uuid == FAST else OTHER_BOARD_J)
            source.close()
    with pytest.raises(EnergyUnavailable, match=f"cuda:{len(boards)}") as refusal:
        NvmlSource.open(f"cuda:{len(boards)}")
    assert (f"CUDA_VISIBLE_DEVICES={form!r}" in str(refusal.value)) is (form is not None)
    assert fake.users == 0


def test_a_board_that_nvml_lacks_is_refused(fake: FakeNvml) -> None:
    fake.handles = {SLOW: 0x1000}
    with pytest.raises(EnergyUnavailable, match="does not know the GPU"):
        NvmlSource.open("cuda")
    assert fake.users == 0


def test_a_run_on_the_cpu_leaves_nvml_alone(fake: FakeNvml) -> None:
    with pytest.raises(EnergyUnavailable, match="does not cover"):
        NvmlSource.open("cpu")
    assert fake.calls == []


@pytest.mark.parametrize(
    "form", [f"MIG-{SLICE_UUID}", f"MIG-{FAST}/1/0", f"MIG-{SLICE_UUID},0", "MIG-77c0"]
)
def test_a_slice_by_name_is_refused(
    form: str, fake: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", form)
    with pytest.raises(EnergyUnavailable, match="MIG") as refusal:
        NvmlSource.open("cuda")
    assert form in refusal.value.reason
    assert "whole board" in refusal.value.reason
    assert "MIG off" in refusal.value.remedy
    assert fake.calls == []


def test_a_board_in_slices_is_refused(fake: FakeNvml) -> None:
    fake.mig = pynvml.NVML_DEVICE_MIG_ENABLE
    with pytest.raises(EnergyUnavailable, match="MIG") as refusal:
        NvmlSource.open("cuda")
    assert "MIG off" in refusal.value.remedy
    assert fake.users == 0


@pytest.mark.parametrize("prefix", ["", "MIG-"])
def test_a_slice_that_cuda_calls_by_its_own_name_is_refused(prefix: str) -> None:
    """Without the variable, CUDA takes the first slice of a board, and may tell its UUID."""
    fake = FakeNvml(constant)
    fake.mig = pynvml.NVML_DEVICE_MIG_ENABLE
    fake.handles[f"MIG-{SLICE_UUID}"] = 0x3000
    with install(fake) as cuda:
        cuda.uuids = (f"{prefix}{SLICE_UUID}",)
        with pytest.raises(EnergyUnavailable, match="MIG"):
            NvmlSource.open("cuda")
    assert fake.users == 0


def test_an_uuid_with_its_prefix_is_taken_as_it_is(fake: FakeNvml) -> None:
    with install(fake) as cuda:
        cuda.uuids = (FAST,)
        assert board_uuid("cuda:0") == FAST


def test_of_what_torch_answers_only_the_first_sentence_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Advice and addresses, as a CUDA build gives them where there is no driver, are left out."""

    def refused(device: object) -> None:
        raise RuntimeError(
            "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU "
            "and installed a driver from http://www.nvidia.com/Download/index.aspx"
        )

    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_properties", refused)
        with pytest.raises(EnergyUnavailable) as refusal:
            board_uuid("cuda:0")
    assert refusal.value.reason.endswith("(Found no NVIDIA driver on your system)")
