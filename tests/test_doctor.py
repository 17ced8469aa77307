from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from click.testing import CliRunner, Result

from effcore import __version__
from effcore.__main__ import main
from effcore.cli import doctor
from effcore.config import default_threads
from effcore.energy.sources.base import SOURCES, EnergyUnavailable
from effcore.energy.sources.cpu_estimate import TDP_VARIABLE
from effcore.energy.sources.rapl import RaplSource
from effcore.store import Store
from effcore.store.db import MIGRATIONS
from tests.store.samples import CONFIG


def call(*words: str) -> Result:
    result = CliRunner().invoke(main, ["doctor", *words])
    assert result.exit_code == 0, result.output
    return result


def record() -> dict[str, Any]:
    (line,) = call("--json").stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_it_prints_one_object_with_everything_in_it() -> None:
    assert set(record()) == {"energy_sources", "devices", "torch", "cores", "store", "versions"}


def test_every_source_says_whether_it_is_there_and_if_not_why() -> None:
    sources = record()["energy_sources"]
    assert [source["name"] for source in sources] == SOURCES.ids()
    for source in sources:
        assert set(source) == {"name", "quality", "available", "reason", "remedy"}
        assert source["available"] is (source["reason"] == "") is (source["remedy"] == "")
    assert {s["name"]: s["quality"] for s in sources}["rapl"] == "measured"


def test_devices_are_torchs_with_name_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    card = SimpleNamespace(name="NVIDIA Fake", total_memory=80 * 2**30)

    def properties(name: object) -> SimpleNamespace:
        if str(name) == "cuda:1":
            raise RuntimeError("out of order")
        return card

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    first, second, cpu = record()["devices"]
    assert first == {"device": "cuda:0", "name": "NVIDIA Fake", "memory_bytes": 80 * 2**30}
    assert second == {
        "device": "cuda:1", "name": "not readable: out of order", "memory_bytes": None,
    }  # fmt: skip
    assert (cpu["device"], cpu["memory_bytes"]) == ("cpu", psutil.virtual_memory().total)
    assert re.search(r"cuda:0 +NVIDIA Fake, 80\.0 GiB", call().stdout)


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [("processor\t: 0\nmodel name\t: A Fine CPU @ 3 GHz\n", "A Fine CPU @ 3 GHz"), (None, "rv64")],
)
def test_the_cpus_name_is_the_kernels_or_else_the_architecture(
    cpuinfo: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        file.write_text(cpuinfo)
    monkeypatch.setattr(doctor, "_CPUINFO", file)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "rv64")
    assert record()["devices"][-1]["name"] == name


def test_the_build_of_torch_and_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    found = record()["torch"]
    assert (found["version"], found["cuda"]) == (torch.__version__, torch.version.cuda)
    assert found["threads"]["intra_op"] == 2
    assert found["threads"]["openmp"] in (2, None)
    assert isinstance(found["mkl"], bool)
    assert isinstance(found["onednn"], bool)
    monkeypatch.setattr(torch.__config__, "parallel_info", lambda: "nothing to tell")
    assert record()["torch"]["threads"]["mkl"] is None


def test_cores_are_those_there_are_those_allowed_and_those_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    found = record()["cores"]
    assert found["logical"] == os.cpu_count()
    assert 1 <= found["usable"] <= found["logical"]
    assert found["run_threads"] == default_threads()
    assert (found["omp_num_threads"], found["mkl_num_threads"]) == ("3", None)


def test_versions_are_those_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = record()["versions"]
    assert (found["python"], found["effcore"]) == (platform.python_version(), __version__)
    assert found["pynvml"] == importlib.metadata.version("nvidia-ml-py")
    assert set(found) == {"python", "effcore", *doctor._PACKAGES}

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert record()["versions"]["streamlit"] is None
    assert re.search(r"streamlit +none", call().stdout)


# The store -------------------------------------------------------------------------------


def test_the_store_is_counted_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["EFFCORE_HOME"])
    assert record()["store"]["runs"] == 0
    assert not home.exists()
    store = Store()
    store.create_run(CONFIG).close()
    store.close()
    found = record()["store"]
    assert set(found) == {
        "path", "size_bytes", "runs", "schema_version", "writable", "problem",
    }  # fmt: skip
    assert (found["runs"], found["writable"]) == (1, True)
    assert found["schema_version"] == len(MIGRATIONS)
    assert found["size_bytes"] > 0
    assert found["problem"] == ""


def test_a_damaged_store_is_a_finding_and_no_failure() -> None:
    home = Path(os.environ["EFFCORE_HOME"])
    home.mkdir(parents=True)
    (home / "effcore.sqlite").write_bytes(b"no database" * 100)
    assert "is damaged" in record()["store"]["problem"]
    assert re.search(r"problem +effcore\.sqlite", call().stdout)


def test_the_path_is_seen_from_home(monkeypatch: pytest.MonkeyPatch) -> None:
    above = Path(os.environ["EFFCORE_HOME"]).parent
    monkeypatch.setattr(Path, "home", lambda: above)
    assert record()["store"]["path"] == str(Path("~/effcore-home"))
    monkeypatch.setattr(Path, "home", lambda: above / "another")
    assert record()["store"]["path"] == "…/effcore-home"


# What it must not tell -------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_no_user_host_folder_or_secret_is_named(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "someone-in-particular")
    monkeypatch.setenv("API_TOKEN", "hunter2")
    monkeypatch.setattr(socket, "gethostname", lambda: "host-in-particular")
    monkeypatch.setattr(platform, "node", lambda: "host-in-particular")

    def broken(device: str) -> None:
        raise ImportError(f"no module in {Path.home()}/env/lib/python3/site-packages/x.py")

    monkeypatch.setattr(RaplSource, "open", broken)
    said = call(*words).output
    assert "it failed: ImportError" in said, "a fault is told, without its folders"
    assert not re.search(r"(?<![\w.…~])/[\w.-]+/", said), "an absolute path"
    for private in ("in-particular", "hunter2", str(Path.home()), os.environ["EFFCORE_HOME"]):
        assert private not in said


# The text --------------------------------------------------------------------------------


def test_the_text_has_the_same_in_aligned_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TDP_VARIABLE, raising=False)

    def refused(device: str) -> None:
        raise EnergyUnavailable("it is dark " * 20, "strike a light")

    monkeypatch.setattr(RaplSource, "open", refused)
    lines = call().stdout.splitlines()
    heads = [line for line in lines if line and not line.startswith(" ")]
    assert heads == ["energy", "devices", "torch", "cores", "store", "versions"]
    assert max(len(line) for line in lines) <= 100
    for part in "\n".join(lines).split("\n\n"):
        rows = part.splitlines()[1:]
        starts = {re.match(r"  (\S.*?)?  +", row).end() for row in rows}  # type: ignore[union-attr]
        assert len(starts) == 1, rows
    text = " ".join("\n".join(lines).split())
    assert "CPU counters (RAPL) not available (would be measured): it is dark" in text
    assert "remedy: strike a light" in text
    assert "CPU model not available (would be estimated): the CPU's rated power is not" in text
