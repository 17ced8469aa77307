"""Report of hardware, libraries, energy sources and the store: ``doctor``.

It is meant to be sent along with a problem report. It therefore holds no name of a user or host,
no secret, and no path but the store's, relative to the home folder.
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
from effcore.energy.sources.cpu_estimate import logical_cores
from effcore.energy.sources.survey import SourceStatus, survey_sources
from effcore.home import default_home
from effcore.store.db import inspect_store

#: Distribution on the package index, by the name shown.
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
    """Return the report as plain JSON types, as ``doctor --json`` prints it."""
    return machine_report_from(survey_sources())


def machine_report_from(sources: Iterable[SourceStatus]) -> dict[str, Any]:
    """Return the report as plain JSON types, from energy sources surveyed before."""
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
    """Return the report for a terminal: aligned lines in sections."""
    sources = survey_sources()
    data = machine_report_from(sources)
    sections: list[tuple[str, list[tuple[str, str]]]] = [
        ("energy", [row for source in sources for row in _source_rows(source)]),
        ("devices", [(d["device"], _device_text(d)) for d in data["devices"]]),
        ("torch", _torch_rows(data["torch"])),
        ("cores", [(name.replace("_", " "), _value_text(v)) for name, v in data["cores"].items()]),
        ("store", _store_rows(data["store"])),
        ("versions", [(name, _value_text(v)) for name, v in data["versions"].items()]),
    ]
    return "\n\n".join("\n".join([head, *_aligned_lines(rows)]) for head, rows in sections)


def installed_versions() -> dict[str, str | None]:
    """Return the versions of Python, Effcore and its dependencies; ``None`` if not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "effcore": __version__}
    for name, distribution in _PACKAGES.items():
        try:
            versions[name] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def path_from_home(path: Path) -> str:
    """Return a path relative to the home folder; outside of it, only its last part."""
    try:
        inside = path.resolve().relative_to(Path.home().resolve())
    except (ValueError, RuntimeError):  # outside of it, or there is no home folder
        return f"…/{path.name}"
    return str(Path("~") / inside)


def _device_record(name: str) -> dict[str, Any]:
    if name == "cpu":
        memory = int(psutil.virtual_memory().total)
        return {"device": name, "name": _cpu_name(), "memory_bytes": memory}
    try:
        properties = torch.cuda.get_device_properties(name)
    except (RuntimeError, AssertionError) as error:  # listed, but not usable
        return {"device": name, "name": f"not readable: {error}", "memory_bytes": None}
    return {"device": name, "name": properties.name, "memory_bytes": int(properties.total_memory)}


def _cpu_name() -> str:
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def _torch_record() -> dict[str, Any]:
    parallel_info = torch.__config__.parallel_info()
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "mkl": bool(torch.backends.mkl.is_available()),  # type: ignore[no-untyped-call]
        "onednn": bool(torch.backends.mkldnn.is_available()),  # type: ignore[no-untyped-call]
        "threads": {
            "intra_op": torch.get_num_threads(),
            "inter_op": torch.get_num_interop_threads(),
            "openmp": _torch_thread_count(parallel_info, "omp_get_max_threads"),
            "mkl": _torch_thread_count(parallel_info, "mkl_get_max_threads"),
        },
    }


def _torch_thread_count(parallel_info: str, function: str) -> int | None:
    """Return a library's number of threads; ``None`` if torch was built without the library."""
    match = re.search(rf"{function}\(\)\s*:\s*(\d+)", parallel_info)
    return int(match[1]) if match else None


def _store_record() -> dict[str, Any]:
    home = default_home()
    facts = inspect_store(home)
    return {
        "path": path_from_home(home),
        "size_bytes": facts.size_bytes,
        "runs": facts.runs,
        "schema_version": facts.schema,
        "writable": facts.writable,
        "problem": facts.problem,
    }


def _source_rows(source: SourceStatus) -> list[tuple[str, str]]:
    quality = source.quality.value
    if source.available:
        return [(source.title, f"{quality}: {source.scope} · {source.source}")]
    why = f"not available (would be {quality}): {source.reason}"
    return [(source.title, why), ("", f"remedy: {source.remedy}")]


def _device_text(device: dict[str, Any]) -> str:
    memory = device["memory_bytes"]
    return str(device["name"]) + (f", {memory / 2**30:.1f} GiB" if memory else "")


def _torch_rows(torch_record: dict[str, Any]) -> list[tuple[str, str]]:
    threads = (
        f"{name.replace('_', '-')} {_value_text(n)}" for name, n in torch_record["threads"].items()
    )
    rows = [
        (name, _value_text(torch_record[name])) for name in ("version", "cuda", "mkl", "onednn")
    ]
    return [*rows, ("threads", ", ".join(threads))]


def _store_rows(store_record: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("path", store_record["path"]),
        ("size", f"{store_record['size_bytes'] / 2**20:.1f} MiB"),
        ("runs", _value_text(store_record["runs"])),
        ("schema version", _value_text(store_record["schema_version"])),
        ("writable", _value_text(store_record["writable"])),
    ]
    return rows + ([("problem", store_record["problem"])] if store_record["problem"] else [])


def _value_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def _aligned_lines(rows: list[tuple[str, str]]) -> list[str]:
    """Return rows of a name and a text as lines, the texts aligned and wrapped."""
    width = max((len(name) for name, _ in rows), default=0)
    lines = []
    for name, text in rows:
        head = f"  {name:<{width}}  "
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines
