"""The origin of a run: the code, PyTorch, processor and data that its numbers depend on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import torch

import effcore
from effcore.config import model_data_fingerprint
from effcore.records import RunConfig
from effcore.store import Store

#: Kind of the event that stores a run's origin.
_EVENT_KIND = "origin"
#: Packages whose code does not affect a run's numbers.
_IRRELEVANT_PACKAGES = {"bench", "cli", "figures", "live", "store", "testing", "impact"}
#: Fields in which two runs differ if their machines or versions may round differently.
_MACHINE_FIELDS = ("effcore", "PyTorch", "processor")


def run_origin(config: RunConfig) -> dict[str, str]:
    """Return what a run's numbers depend on besides its configuration, by name."""
    return {
        "code": code_version(),
        "effcore": effcore.__version__,
        "PyTorch": str(torch.__version__),
        "processor": processor_fingerprint(config.device),
        "data": model_data_fingerprint(config),
    }


def record_origin(store: Store, run_id: str, origin: Mapping[str, str]) -> None:
    """Store the origin of a run.

    Raises:
        StoreError: The database cannot be written.
    """
    store.execute_write(
        "INSERT OR REPLACE INTO events VALUES (?, ?, ?)", run_id, _EVENT_KIND, json.dumps(origin)
    )


def load_origins(store: Store, run_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the origins of runs by id; runs without a stored origin are left out.

    Raises:
        StoreError: The database cannot be read.
    """
    rows = store.query("SELECT run_id, data FROM events WHERE kind = ?", _EVENT_KIND)
    wanted = set(run_ids)
    return {row["run_id"]: json.loads(row["data"]) for row in rows if row["run_id"] in wanted}


def is_mixed(origins: Collection[Mapping[str, str]]) -> bool:
    """Return whether runs come from different machines or versions."""
    return len({tuple(origin.get(name) for name in _MACHINE_FIELDS) for origin in origins}) > 1


@cache
def code_version() -> str:
    """Return a hash of all code that may affect a run's numbers."""
    root = Path(effcore.__file__).parent
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if not _IRRELEVANT_PACKAGES & set(path.relative_to(root).parts)
    ]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def processor_fingerprint(device: str) -> str:
    """Return a hash of processor, graphics board and system; equal hashes mean equal arithmetic.

    Another processor adds numbers in another order. The rounding can move a single run by as much
    as a margin.

    Args:
        device: The device that trains: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    names = [cpu_name(), platform.system()]
    if device != "cpu" and torch.cuda.is_available():
        names.append(torch.cuda.get_device_name(device))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


@cache
def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return (names[0] if names else platform.processor() or "unknown").strip()
