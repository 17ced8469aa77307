"""Short runs with recorded results, and the comparison of a run with its record.

A record in ``goldens.json`` holds the command line of a run and what came of it. Its configuration
and its FLOPs must be equal on every machine. Its parameters are equal to the bit only where the
version of PyTorch and the features of the processor are those of the record, and, for the tasks
that read Python's standard library, the text is the same. Elsewhere sums are rounded in another
order, and the metric must lie within :data:`TOLERANCES` of the record instead.
"""

from __future__ import annotations

import json
import platform
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.store import Store
from tests.left import leave

GOLDENS = Path(__file__).with_name("goldens.json")
#: What every golden run is given: one thread, since sums over several are rounded otherwise.
EVERY_RUN = ("--device", "cpu", "--threads", "1")
#: Compared on every machine, to the bit.
EXACT = ("flops_spent", "flops_dense", "flops_full")
#: Largest difference of a final metric where parameters cannot be equal, by the metric's name.
#: Over all goldens, PyTorch held to SSE4.1 and to AVX2 instead of AVX-512 moved accuracy by 0.014
#: at most (5 of 360 images), PSNR by 0.0008 dB, bits per byte and R² by 0.0001. Each limit is
#: three times that or the difference of no consequence for the task, whichever is larger.
TOLERANCES = {
    "psnr": 0.1,
    "accuracy": 0.042,
    "balanced_accuracy": 0.042,
    "bits_per_byte": 0.027,
    "r2": 0.01,
}
#: The same where the text differs, as it does between versions of Python. The texts of Python 3.12
#: and 3.13 in place of 3.11's moved bits per byte by 0.152 at most, accuracy by 0.046. Each limit
#: is about twice that.
TEXT_TOLERANCES = {"bits_per_byte": 0.3, "accuracy": 0.1}
_CPUINFO = Path("/proc/cpuinfo")
#: Instructions that decide how PyTorch and its libraries order a sum.
_VECTOR = re.compile(r"(avx|amx|fma|f16c|sse|asimd|sve|fphp|bf16|i8mm)")


class Comparison(NamedTuple):
    """What a run was compared by, and each way in which it differs from its record."""

    by: str
    differences: list[str]


class Here(NamedTuple):
    """Which of the conditions of a record hold on this machine."""

    same_machine: bool
    same_text: bool = True


def call(*words: str) -> str:
    """Return what a command of ``python -m effcore`` prints, called in this process."""
    result = CliRunner().invoke(main, list(words))
    assert result.exit_code == 0, f"{' '.join(words)}: {result.output}"
    return result.stdout


def printed(*words: str) -> dict[str, Any]:
    """Return the JSON object that a command prints as its last line."""
    found: dict[str, Any] = json.loads(call(*words, "--json").splitlines()[-1])
    return found


def conditions() -> dict[str, str]:
    """Return what the last bits of a run depend on besides its configuration."""
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    first: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        first.setdefault(name.strip(), value.strip())
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    known = [f"{name} {first[name]}" for name in names if name in first]
    flags = (first.get("flags") or first.get("Features") or "").split()
    return {
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "processor": ", ".join(known) or platform.processor(),
        "features": " ".join(sorted(flag for flag in flags if _VECTOR.match(flag))),
    }


def texts() -> dict[str, str]:
    """Return the hash of the text that a task learns from, for the tasks that learn from one."""
    provenance = {task["id"]: task["provenance"] for task in printed("list")["tasks"]}
    found = {name: re.search(r"SHA-256 ([0-9a-f]+)", words) for name, words in provenance.items()}
    known = {name: match[1] for name, match in found.items() if match}
    assert {"code", "snippets"} <= known.keys(), "their text is no longer told by its hash"
    return known


def measured(golden: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Train a golden run and return its results, with the keys of a record.

    Args:
        golden: A record; only its command and its interruption are read.
        folder: An empty folder for files.
    """
    record = printed("run", *EVERY_RUN, *golden["command"].split())
    if cut := golden.get("interrupted"):
        whole, record = record, _resumed(record["run_id"], **cut)
        assert record["resumed_after_steps"] == [cut["checkpoint_step"]]
        assert record["parameters_sha256"] == whole["parameters_sha256"], (
            "a resumed run differs from the same run without an interruption"
        )
    call("export", record["run_id"], str(folder / "run.zip"))
    with zipfile.ZipFile(folder / "run.zip") as bundle:
        config, events = (json.loads(bundle.read(f"{name}.json")) for name in ("config", "events"))
    return {
        "config": config,
        "flops_spent": record["flops_spent"],
        "flops_dense": record["flops_dense"],
        "flops_full": record.get("flops_full", events["start"]["flops_dense"]),
        "metric_name": record["metric_name"],
        "metric": record["metric"],
        "parameters_sha256": record["parameters_sha256"],
    }


def _resumed(run_id: str, checkpoint_step: int, killed_after: int) -> dict[str, Any]:
    """Train the same run again, cut off some steps after a checkpoint, and resume it."""
    store = Store()
    try:
        config = store.load_snapshot(run_id).config
        left_id = leave(store, config, checkpoint_step, killed_after - checkpoint_step)
    finally:
        store.close()
    return printed("resume", left_id)


def compared(golden: Mapping[str, Any], found: Mapping[str, Any], here: Here) -> Comparison:
    """Compare a run with its record.

    Args:
        golden: The record.
        found: What :func:`measured` returned.
        here: What of the recorded conditions holds here.
    """
    wrong = [
        f"config.{name} is {found['config'].get(name, 'missing')!r}, recorded {value!r}"
        for name, value in golden["config"].items()
        if name not in found["config"] or found["config"][name] != value
    ]
    same = here.same_machine and here.same_text
    exact = (*EXACT, "metric_name", *(("parameters_sha256", "metric") if same else ()))
    wrong += [
        f"{name} is {found[name]!r}, recorded {golden[name]!r}"
        for name in exact
        if found[name] != golden[name]
    ]
    if same:
        return Comparison("parameters_sha256, to the bit", wrong)
    limits = TOLERANCES if here.same_text else TEXT_TOLERANCES
    limit = limits[golden["metric_name"]]
    if not abs(found["metric"] - golden["metric"]) <= limit:
        wrong.append(
            f"metric is {found['metric']!r}, recorded {golden['metric']!r}, tolerance {limit}"
        )
    return Comparison(f"{golden['metric_name']} within {limit}", wrong)
