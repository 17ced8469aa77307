"""What this machine has and can measure: for a look before the first run, or with a report.

Only what helps to understand a run: no name of a user or host, no secret, and no path but
the store's, as seen from the home folder.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil
import torch

from effcore import __version__
from effcore.config import available_devices, default_threads
from effcore.energy.source_survey import SourceStatus, survey_sources
from effcore.energy.sources.cpu_estimate import logical_cores
from effcore.home import default_home
from effcore.store.inspection import inspect_store

#: What it is known by -> the distribution it comes in.
_PACKAGES = {
    "streamlit": "streamlit",
    "torch": "torch",
    "plotly": "plotly",
    "pandas": "pandas",
    "pynvml": "nvidia-ml-py",
    "scikit-learn": "scikit-learn",
}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_CPUINFO = Path("/proc/cpuinfo")
_WIDTH = 100


def machine_report() -> dict[str, Any]:
    """Return what there is, as plain JSON types: what ``doctor --json`` prints."""
    return machine_report_from(survey_sources())


def machine_report_from(sources: Iterable[SourceStatus]) -> dict[str, Any]:
    """Return what there is, with sources of energy that were surveyed already."""
    return {
        "energy_sources": [
            {
                "name": source.id,
                "quality": source.quality.value,
                "available": source.available,
                "reason": source.reason,
                "remedy": source.remedy,
            }
            for source in sources
        ],
        "devices": [_device_record(name) for name in available_devices()],
        "torch": _torch_record(),
        "cores": {
            "logical": os.cpu_count(),
            "usable": logical_cores(),
            "run_threads": default_threads(),
            **{name.lower(): os.environ.get(name) for name in _THREAD_VARIABLES},
        },
        "store": _store_record(),
        "versions": installed_versions(),
    }


def machine_report_text() -> str:
    """Return the same for a terminal: a few aligned lines for each part."""
    sources = survey_sources()
    data = machine_report_from(sources)
    found: list[tuple[str, list[tuple[str, str]]]] = [
        ("energy", [row for source in sources for row in _source_rows(source)]),
        ("devices", [(d["device"], _device_text(d)) for d in data["devices"]]),
        ("torch", _torch_rows(data["torch"])),
        ("cores", [(name.replace("_", " "), _value_text(v)) for name, v in data["cores"].items()]),
        ("store", _store_rows(data["store"])),
        ("versions", [(name, _value_text(v)) for name, v in data["versions"].items()]),
    ]
    return "\n\n".join("\n".join([head, *_aligned_lines(rows)]) for head, rows in found)


def installed_versions() -> dict[str, str | None]:
    """Return the version of Python, Effcore and what it stands on; ``None`` if not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "effcore": __version__}
    for name, distribution in _PACKAGES.items():
        try:
            found[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def path_from_home(path: Path) -> str:
    """Return a path as seen from the home folder; outside of it, only its last part."""
    try:
        inside = path.resolve().relative_to(Path.home().resolve())
    except (ValueError, RuntimeError):  # outside of it, or there is no home
        return f"…/{path.name}"
    return str(Path("~") / inside)


def _device_record(name: str) -> dict[str, Any]:
    if name == "cpu":
        memory = int(psutil.virtual_memory().total)
        return {"device": name, "name": _cpu_name(), "memory_bytes": memory}
    try:
        found = torch.cuda.get_device_properties(name)
    except (RuntimeError, AssertionError) as error:  # listed, and yet not usable
        return {"device": name, "name": f"not readable: {error}", "memory_bytes": None}
    return {"device": name, "name": found.name, "memory_bytes": int(found.total_memory)}


def _cpu_name() -> str:
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def _torch_record() -> dict[str, Any]:
    told = torch.__config__.parallel_info()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "mkl": bool(torch.backends.mkl.is_available()),  # type: ignore[no-untyped-call]
        "onednn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        "threads": {
            "intra_op": torch.get_num_threads(),
            "inter_op": torch.get_num_interop_threads(),
            "openmp": _torch_thread_count(told, "omp_get_max_threads"),
            "mkl": _torch_thread_count(told, "mkl_get_max_threads"),
        },
    }


def _torch_thread_count(parallel_info: str, function: str) -> int | None:
    """Return a number of threads; ``None`` where torch was built without that library."""
    found = re.search(rf"{function}\(\)\s*:\s*(\d+)", parallel_info)
    return int(found[1]) if found else None


def _store_record() -> dict[str, Any]:
    home = default_home()
    found = inspect_store(home)
    return {
        "path": path_from_home(home),
        "size_bytes": found.size_bytes,
        "runs": found.runs,
        "schema_version": found.schema,
        "writable": found.writable,
        "problem": found.problem,
    }


def _source_rows(source: SourceStatus) -> list[tuple[str, str]]:
    quality = source.quality.value
    if source.available:
        return [(source.title, f"{quality}: {source.scope} · {source.source}")]
    why = f"not available ({quality} if it were): {source.reason}"
    return [(source.title, why), ("", f"remedy: {source.remedy}")]


def _device_text(device: dict[str, Any]) -> str:
    memory = device["memory_bytes"]
    return str(device["name"]) + (f", {memory / 2**30:.1f} GiB" if memory else "")


def _torch_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    threads = (f"{name.replace('_', '-')} {_value_text(n)}" for name, n in found["threads"].items())
    rows = [(name, _value_text(found[name])) for name in ("version", "cuda", "mkl", "onednn")]
    return [*rows, ("threads", ", ".join(threads))]


def _store_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("path", found["path"]),
        ("size", f"{found['size_bytes'] / 2**20:.1f} MiB"),
        ("runs", _value_text(found["runs"])),
        ("schema version", _value_text(found["schema_version"])),
        ("writable", _value_text(found["writable"])),
    ]
    return rows + ([("problem", found["problem"])] if found["problem"] else [])


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _aligned_lines(rows: list[tuple[str, str]]) -> list[str]:
    """Return rows of a name and a text, the texts below each other and wrapped."""
    wide = max((len(name) for name, _ in rows), default=0)
    lines = []
    for name, text in rows:
        head = f"  {name:<{wide}}  "
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
