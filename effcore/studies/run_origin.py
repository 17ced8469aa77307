"""What a run's numbers depend on besides its configuration: code, PyTorch, processor, data."""

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

#: The kind of event that a run's origin is stored as.
_EVENT_KIND = "origin"
#: Packages that no run depends on.
_IRRELEVANT_PACKAGES = {"bench", "cli", "figures", "live", "store", "testing", "impact"}
#: What tells two machines, or two versions, whose runs round differently.
_MACHINE_FIELDS = ("effcore", "PyTorch", "processor")


def run_origin(config: RunConfig) -> dict[str, str]:
    """Return what the run's numbers depend on, by name."""
    return {
        "code": code_version(),
        "effcore": effcore.__version__,
        "PyTorch": str(torch.__version__),
        "processor": processor_fingerprint(config.device),
        "data": model_data_fingerprint(config),
    }


def record_origin(store: Store, run_id: str, origin: Mapping[str, str]) -> None:
    """Store where a run comes from.

    Raises:
        StoreError: The database cannot be written.
    """
    store.execute_write(
        "INSERT OR REPLACE INTO events VALUES (?, ?, ?)", run_id, _EVENT_KIND, json.dumps(origin)
    )


def load_origins(store: Store, run_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return where runs come from, by id; runs that do not say so are left out.

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
    """Return the hash of all code that may decide how a run goes."""
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
    """Return a text that is equal where a run's arithmetic is: of processor, board and system.

    Another processor rounds sums in another order, which moves one run by as much as a margin.

    Args:
        device: Where a run trains, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    names = [cpu_name(), platform.system()]
    if device != "cpu" and torch.cuda.is_available():
        names.append(torch.cuda.get_device_name(device))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


@cache
def cpu_name() -> str:
    """Return what the processor calls itself."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return (names[0] if names else platform.processor() or "unknown").strip()
