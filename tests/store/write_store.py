"""Write a store of this version as a fixture: real runs, studies and a sweep, and their values.

    python -m tests.store.write_store

This takes about four minutes on a machine that does nothing else. It writes, where n is the
database's ``user_version``:

- ``stores/v<n>.tar.xz``, the store, and ``stores/v<n>-run.zip``, a run as ``export`` wrote it;
- ``stores/v<n>.json``, the values that ``test_earlier_store.py`` expects of them. They are read
  from the database, the files and the JSON of the commands, not by Effcore's own readers.

A fixture is never written again under the same version: it stands for the stores that people
have on their disks, and those do not change either. Write a new one when the database has a new
version, or, under a name of its own, when files or JSON of the store have changed without one;
then add its checksums to ``WRITTEN`` in ``test_earlier_store.py``.

How the runs came about:

- Most are trained by the command line, with the smallest models, in this process.
- ``steered`` was paused and had two knobs moved by hand; ``stopped`` was stopped by hand.
- ``resumed`` and ``interrupted`` are commands that were killed with SIGKILL after their first
  checkpoint; ``resumed`` was then resumed by the command.
- ``interrupted-<policy>`` were taken to their checkpoint step by step, and killed some steps
  later. ``interrupted-early`` was killed before its first checkpoint.
- ``failed`` has a learning rate at which its loss overflows.
- ``imported`` was trained in another store, exported and imported; its bundle is kept.
- ``study-unfinished`` was killed after three of its eight runs.
- ``in-trash`` and ``study-in-trash`` were deleted, and can be restored.

The processor's power is stated as 65 W, so that energy is estimated. Lock files are left out.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import io
import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import torch
from click.testing import CliRunner

from effcore import __version__
from effcore.__main__ import main as effcore_command
from effcore.config import ConfigError, model_data_fingerprint, resolve
from effcore.knobs import KnobSpec
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records.settings import Settings
from effcore.runs.manager import RunManager
from effcore.runs.run import Run
from effcore.store import Store
from effcore.store.labels import validated_labels
from effcore.store.trash import Trash
from effcore.tasks.base import SIZES, TASKS
from effcore.training.warmup import warm_up_once

FOLDER = Path(__file__).parent / "stores"
ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
#: Bytes of a row of each table file.
ROW_BYTES = {"steps": 8 * 8, "evals": 6 * 8, "power": 7 * 8, "phases": 7 * 8}
#: Steps before the checkpoint of a run that is interrupted step by step, and after it.
STEPS_BEFORE, STEPS_AFTER = 25, 5

WINE: Settings = {"task": "tabular-wine", "model": "mlp", "size": "small", "epochs": 6, "seed": 3}
RESNET: Settings = {**WINE, "model": "resnet"}
LONG: Settings = {**WINE, "epochs": 200, "batch_size": 4}
HERE: Settings = {"device": "cpu", "threads": 1}
STUDY = ["compare", "--task", "tabular-wine", "--model", "mlp", "--size", "small", "--epochs", "6",
         "--policy", "stale-pps", "--budget", "0.6"]  # fmt: skip
SWEEP = ["sweep", "--task", "tabular-wine", "--model", "resnet", "--size", "small", "--epochs", "6",
         "--policy", "confident-skip", "--trials", "3", "--seeds", "2", "--margin", "0.3",
         "--confirm-seeds", "6"]  # fmt: skip
#: Left out of the records of ``compare`` and ``sweep``: sentences, what is expected of each run
#: anyway, and a share whose reference is a version's own choice; the FLOPs are there.
_NOT_EXPECTED = {
    "sentences", "sentence", "exploratory", "why", "rule", "conclusion", "energy",
    "skipped_compute_frac",
}  # fmt: skip
UNFINISHED = [*STUDY, "--seed-list", "7,8", "--learning-rate", "0.003"]


def command(*words: str) -> Any:
    """Run a command in this process; return its JSON, or its last line where that is none."""
    result = CliRunner().invoke(effcore_command, list(words))
    if not result.stdout:
        raise RuntimeError(f"{words} printed nothing: {result.output} {result.exception!r}")
    line = result.stdout.splitlines()[-1]
    return json.loads(line) if line.startswith("{") else line


def options(settings: Mapping[str, Any]) -> list[str]:
    """Return settings as options of ``run``."""
    words = []
    for name, value in {**settings, **HERE}.items():
        option = "policy" if name == "selection" else name.replace("_", "-")
        words += [f"--{option}", str(value)]
    return words


def train(**settings: Any) -> str:
    """Train a run by the command and return its id."""
    run_id = str(command("run", *options(settings), "--json")["run_id"])
    click.echo(f"{run_id} {settings}")
    return run_id


def wait_for(ready: Callable[[], Any], pause: Callable[[], Any]) -> Any:
    """Return the first true answer of ``ready``."""
    until = time.monotonic() + PATIENCE_S
    while not (answer := ready()):
        if time.monotonic() > until:
            raise TimeoutError("it took too long")
        pause()
    return answer


# Runs that are steered, stopped or interrupted ----------------------------------------------


def step_to(run: Run, steps: int) -> None:
    """Take a paused run to a number of steps, one by one."""
    while (before := run.snapshot().steps_done) < steps:
        wait_for(lambda: run.snapshot().status == "paused", lambda: run.join(0.001))
        run.step_once()
        for _ in range(100):  # what prepares a run holds, too, and is no step
            if run.join(0.001) or run.snapshot().steps_done != before:
                break
        if run.done.is_set():
            raise RuntimeError(f"run {run.run_id} was over after {before} steps")


@contextlib.contextmanager
def paused_run(settings: Mapping[str, Any]) -> Iterator[Run]:
    """Start a run that holds after its first step."""
    config = resolve({**settings, **HERE})
    warm_up_once(config)
    runs = RunManager(Store())
    run = runs.start(config)[-1]
    run.pause()
    yield run
    runs.stop_all()
    runs.store.close()


def steered() -> str:
    """Train a run whose knobs are moved by hand."""
    with paused_run(WINE) as run:
        step_to(run, 8)
        run.set_knob("mass", 0.6)
        step_to(run, 16)
        run.set_knob("loss_threshold", 0.9)
        run.resume()
        run.join()
        return run.run_id


def stopped() -> str:
    """Train a run that is stopped by hand."""
    with paused_run({**WINE, "selection": "dense"}) as run:
        step_to(run, 12)
        run.stop()
        run.join()
        return run.run_id


def saved_at(file: Path) -> int:
    """Return when a file was written, ns; 0 where there is none."""
    return file.stat().st_mtime_ns if file.exists() else 0


def halfway(spec: KnobSpec) -> float | int:
    """Return the middle of a knob's range."""
    middle = (spec.lo + spec.hi) / 2
    return spec.validate(int(middle) if spec.integer else round(middle, 3))


def interrupt_here(settings: Mapping[str, Any], early: bool) -> None:
    """Train a run to its checkpoint and some steps on, then kill this process."""
    with paused_run(settings) as run:
        step_to(run, 3)
        if not early:
            step_to(run, 10)
            if specs := run.knob_specs():
                run.set_knob(specs[0].name, halfway(specs[0]))
            step_to(run, STEPS_BEFORE)
            file = Path(os.environ["EFFCORE_HOME"]) / "runs" / run.run_id / "checkpoint.bin"
            run.join(1.0)  # until a checkpoint that was taken on the way is written
            before = saved_at(file)
            while saved_at(file) == before:  # one is due after a second, then every five
                step_to(run, run.snapshot().steps_done + 1)
                run.join(0.8)
            step_to(run, run.snapshot().steps_done + STEPS_AFTER)
        wait_for(lambda: run.snapshot().status == "paused", lambda: run.join(0.001))
        os.kill(os.getpid(), signal.SIGKILL)


def interrupted(settings: Mapping[str, Any], early: bool = False) -> str:
    """Train a run in a process of its own, which is killed; return the run's id."""
    before, context = stored_ids(), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["effcore.__main__", "sklearn.datasets"])
    child = context.Process(target=interrupt_here, args=(settings, early))
    child.start()
    child.join(PATIENCE_S)
    if child.exitcode != -signal.SIGKILL:
        raise RuntimeError(f"{settings} ended with {child.exitcode}")
    (run_id,) = stored_ids() - before
    click.echo(f"{run_id} interrupted {settings}")
    return run_id


def killed(settings: Mapping[str, Any]) -> str:
    """Run the command in a process of its own, and kill it after its checkpoint."""
    home, before = Path(os.environ["EFFCORE_HOME"]), stored_ids()
    words = [sys.executable, "-m", "effcore", "run", *options(settings)]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL) as child:

        def saved() -> list[str]:
            fresh = stored_ids() - before
            return [one for one in fresh if (home / "runs" / one / "checkpoint.bin").exists()]

        (run_id,) = wait_for(saved, lambda: wait_a_little(child))
        child.kill()
    click.echo(f"{run_id} killed {settings}")
    return str(run_id)


def wait_a_little(child: subprocess.Popen[bytes]) -> None:
    """Wait for a child that is not to end yet."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(0.02)
        raise RuntimeError("the run was over before it was killed")


def unfinished_study(words: list[str], runs: int) -> None:
    """Carry a study out in a process of its own, and kill it after some runs."""
    words = [sys.executable, "-m", "effcore", *words]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        for line in child.stderr:
            if line.startswith(f"{runs} of "):
                break
        child.kill()


def stored_ids() -> set[str]:
    """Return the ids of all runs in the database."""
    return {row["run_id"] for row in rows("SELECT run_id FROM runs")}


# What is written ----------------------------------------------------------------------------


def write_runs() -> dict[str, str]:
    """Train all runs that belong to no study; return their ids by name."""
    ids = {
        "dense": train(**WINE, selection="dense"),
        "selecting": train(**WINE, selection="confident-skip"),
        "budgeted": train(**WINE, selection="stale-pps", budget=0.6),
        "dense-resnet": train(**RESNET, selection="dense"),
        "selecting-resnet": train(**RESNET, selection="infobatch"),
        "steered": steered(),
        "replayed": str(
            command(
                "run", *options(WINE), "--set", "5:mass=0.6", "--set", "12:loss_threshold=0.9",
                "--json",
            )["run_id"]
        ),
        "stopped": stopped(),
        "failed": train(
            task="tabular-diabetes", size="small", selection="dense", epochs=4, optimizer="sgd",
            learning_rate=10,
        ),
        "regression": train(
            task="tabular-diabetes", size="small", epochs=4, seed=1, clip_norm=0.5,
            precision="bf16",
        ),
        "spoilt-data": train(
            task="tabular", size="small", epochs=2, batch_size=50, rows=500, label_noise=0.1,
            imbalance=3, redundancy=0.2,
        ),
        "pictures": train(
            task="digits", size="small", epochs=1, batch_size=128, selection="random",
            intensity="resolution",
        ),
    }  # fmt: skip
    for kind, setting in every_policy():
        ids[f"policy-{setting[kind]}"] = train(**{**RESNET, "selection": "dense", **setting})
    for kind, setting in every_policy():
        few_steps = setting[kind] in ("selective-backprop", "rho-loss")  # of each epoch
        length = {"epochs": 60 if few_steps else 20}
        ids[f"interrupted-{setting[kind]}"] = interrupted(
            {**RESNET, "selection": "dense", **setting, **length}
        )
    ids["interrupted-early"] = interrupted(WINE, early=True)
    ids["interrupted"] = killed({**LONG, "selection": "auto"})
    ids["resumed"] = killed({**LONG, "selection": "stale-pps", "update": "skip-step"})
    command("resume", ids["resumed"], "--json")
    return ids


def every_policy() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the settings of each policy that goes with a small residual network."""
    for kind, registry in POLICY_REGISTRIES.items():
        for name in registry.ids():
            setting = {kind: name}
            if name in ("dense", "every-step", "full"):
                continue
            with contextlib.suppress(ConfigError):
                resolve({**RESNET, "selection": "dense", **setting, **HERE})
                yield kind, setting


def imported(scratch: Path) -> str:
    """Train a run in another store, export it there and import it here; return its id."""
    home = os.environ["EFFCORE_HOME"]
    os.environ["EFFCORE_HOME"] = str(scratch / "elsewhere")
    run_id = train(**{**WINE, "seed": 4}, selection="kakurenbo")
    label(run_id, "From elsewhere", ["imported"], "")
    command("export", run_id, str(scratch / "run.zip"))
    os.environ["EFFCORE_HOME"] = home
    return str(command("import", str(scratch / "run.zip")))


def label(owner: str, name: str, tags: list[str], note: str) -> None:
    """Give a run or a study a name, tags and a note."""
    store = Store()
    store.set_labels(owner, validated_labels(name, tags, note))
    store.close()


def write_everything(scratch: Path) -> dict[str, Any]:
    """Fill the store; return the names of its runs and the records of its studies."""
    ids = write_runs()
    ids["imported"] = imported(scratch)
    ids["in-trash"] = train(**{**WINE, "seed": 5}, selection="random")
    label(ids["selecting"], "Wine, a third left out", ["keep", "räksmörgås"], "Two lines:\nthis.")
    study = command(*STUDY, "--seeds", "6", "--json")
    label(study["study_id"], "Six seeds", ["study"], "")
    sweep = command(*SWEEP, "--json")
    known = {row["study_id"] for row in rows("SELECT study_id FROM studies")}
    unfinished_study(UNFINISHED, 3)
    (cut_short,) = {row["study_id"] for row in rows("SELECT study_id FROM studies")} - known
    in_trash = command(*STUDY, "--seed-list", "9", "--learning-rate", "0.004", "--json")
    store = Store()
    refused = Trash(store).add_runs([ids["in-trash"]])
    refused |= Trash(store).add_studies([in_trash["study_id"]])
    store.close()
    if refused:
        raise RuntimeError(f"not moved to the trash: {refused}")
    return {
        "names": ids,
        "study": {"command": [*STUDY, "--seeds", "6"], "record": without_words(study)},
        "sweep": {"command": SWEEP, "record": without_words(sweep)},
        "study-unfinished": {"command": UNFINISHED, "study_id": cut_short},
        "study-in-trash": in_trash["study_id"],
    }


# The values that are expected ---------------------------------------------------------------


def rows(sql: str, *values: Any) -> list[dict[str, Any]]:
    """Return rows of the store's database by column."""
    path = Path(os.environ["EFFCORE_HOME"]) / "effcore.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, values)]


def expected_of(run: Mapping[str, Any], whole: bool = True) -> dict[str, Any]:
    """Return what must be read of a run, from the database and the files.

    Args:
        run: Its row.
        whole: Whether all its events are wanted, or its end alone.
    """
    run_id = run["run_id"]
    folder = Path(os.environ["EFFCORE_HOME"]) / "runs" / run_id
    found = rows("SELECT kind, data FROM events WHERE run_id = ?", run_id)
    events = {row["kind"]: json.loads(row["data"]) for row in found}
    events.get("histogram", {}).pop("edges", None)  # the same for all
    if not whole:
        events = {kind: event for kind, event in events.items() if kind == "end"}
    changes = rows("SELECT step, name, value FROM changes WHERE run_id = ? ORDER BY position",
                   run_id)  # fmt: skip
    labels = rows("SELECT name, tags, note FROM labels WHERE id = ?", run_id)
    return {
        "created_unix": run["created_unix"],
        "status": run["status"] if "end" in events else "interrupted",
        "exploratory": bool(run["exploratory"]),
        "reference_id": run["reference_id"],
        "progress": run["progress"],
        "imported": bool(rows("SELECT id FROM imports WHERE id = ?", run_id)),
        "labels": labels[0] if labels else None,
        "config": json.loads(run["config"]),
        "events": events,
        "changes": [list(change.values()) for change in changes],
        "tables": {name: table(folder / f"{name}.f64", size) for name, size in ROW_BYTES.items()},
        "decisions": (folder / "decisions.bin").read_bytes().count(b"PASS"),
        "epochs_with_losses": (folder / "losses.bin").read_bytes().count(b"LOSS"),
        "checkpoint": (folder / "checkpoint.bin").exists(),
        "view": (folder / "view.npy").exists(),
    }


def table(path: Path, row_bytes: int) -> dict[str, Any]:
    """Return how many whole rows a table has, and the hash of them."""
    raw = path.read_bytes()
    count = len(raw) // row_bytes
    return {"rows": count, "sha256": hashlib.sha256(raw[: count * row_bytes]).hexdigest()}


def without_words(record: Any) -> Any:
    """Return a record without what is not expected of a later version."""
    if isinstance(record, dict):
        left_out = _NOT_EXPECTED | ({"cost"} if isinstance(record.get("cost"), str) else set())
        return {k: without_words(v) for k, v in record.items() if k not in left_out}
    return [without_words(each) for each in record] if isinstance(record, list) else record


def continuations(home: Path, scratch: Path, ids: Mapping[str, str]) -> dict[str, Any]:
    """Resume each interrupted run in a copy of the store; return what it comes to by name."""
    os.environ["EFFCORE_HOME"] = str(scratch / "copy")
    shutil.copytree(home, scratch / "copy")
    kept = ("status", "parameters_sha256", "metric", "flops_spent", "flops_dense", "passes",
            "examples_considered", "examples_trained", "resumed_after_steps")  # fmt: skip
    found = {}
    for name, run_id in ids.items():
        if name.startswith("interrupted") and name != "interrupted-early":
            record = command("resume", run_id, "--json")
            found[name] = {key: record[key] for key in kept}
    os.environ["EFFCORE_HOME"] = str(home)
    return found


def check_whole_run(scratch: Path, continued: Mapping[str, Any], home: Path) -> None:
    """Train the killed runs without an interruption; the parameters must be the same."""
    os.environ["EFFCORE_HOME"] = str(scratch / "whole")
    for settings, sha in continued.values():
        if command("run", *options(settings), "--json")["parameters_sha256"] != sha:
            raise RuntimeError(f"a resumed run differs from one never interrupted: {settings}")
    os.environ["EFFCORE_HOME"] = str(home)


def recorded_on() -> dict[str, str]:
    """Return what the numbers of a CPU run depend on besides its configuration."""
    return {
        "effcore": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "processor": processor(),
    }


def processor() -> str:
    """Return system, architecture, instructions and maker of the processor; names no model."""
    maker = platform.processor()
    with contextlib.suppress(OSError):
        found = re.search(r"vendor_id\s*: (\w+)", Path("/proc/cpuinfo").read_text("utf-8"))
        maker = found.group(1) if found else maker
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{platform.system()} {platform.machine()} {capability} {maker}"


def fingerprints() -> dict[str, str]:
    """Return the fingerprint of every task's every model at every size."""
    return {
        f"{task.id}/{choice.id}/{size}": model_data_fingerprint(
            resolve({"task": task.id, "model": choice.id, "size": size, "selection": "dense",
                     "update": "every-step", "intensity": "full", **HERE})
        )
        for task in TASKS
        for choice in task.models
        for size in SIZES
    }  # fmt: skip


def check_anonymous(home: Path) -> None:
    """Refuse a store that names a folder, a user or a host of this machine."""
    folders = {str(home), str(home.parent), str(ROOT), str(Path.home()), tempfile.gettempdir()}
    words = {socket.gethostname(), getpass.getuser(), platform.node()}
    for path in home.rglob("*"):
        if not path.is_file():
            continue
        raw = path.read_bytes()
        named = [folder for folder in folders if folder.encode() in raw]
        if path.name in ("effcore.sqlite", "checkpoint.bin"):
            text = " ".join(re.findall(r"[ -~]{6,}", raw.decode("latin-1")))
            named += [word for word in words if re.search(rf"\b{re.escape(word)}\b", text)]
        if named:
            raise RuntimeError(f"{path.relative_to(home)} names {named}")


def pack(home: Path, archive: Path) -> None:
    """Put the store's files into an archive, without its locks and whose they are."""
    with contextlib.closing(sqlite3.connect(home / "effcore.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with tarfile.open(archive, "x:xz", preset=9) as file:
        for path in sorted(home.rglob("*")):
            left_out = path.name == "lock" or path.suffix == ".lock"
            if path.is_file() and not left_out:
                data = path.read_bytes()
                member = tarfile.TarInfo(path.relative_to(home).as_posix())
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))


def to_text(expected: Mapping[str, Any]) -> str:
    """Return the expected values as JSON, a run on each line."""
    lines = []
    for key, value in expected.items():
        parts = value.items() if isinstance(value, dict) else ()
        rest = ",\n".join(f"  {json.dumps(name)}: {_line(each)}" for name, each in parts)
        lines.append(f" {json.dumps(key)}: " + (f"{{\n{rest}\n }}" if rest else _line(value)))
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def main() -> None:
    """Write the fixture of this version, unless there is one."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        home = scratch / "home"
        os.environ |= {"EFFCORE_HOME": str(home), "EFFCORE_CPU_TDP_W": "65"}
        Store().close()
        (version,) = rows("PRAGMA user_version")[0].values()
        archive = FOLDER / f"v{version}.tar.xz"
        if archive.exists():
            sys.exit(f"{archive.name} is there: a fixture is never written again")
        about = write_everything(scratch)
        ids = about["names"]
        continued = continuations(home, scratch, ids)
        resumed = rows("SELECT data FROM events WHERE kind = 'end' AND run_id = ?", ids["resumed"])
        check_whole_run(
            scratch,
            {
                "interrupted": (
                    {**LONG, "selection": "auto"},
                    continued["interrupted"]["parameters_sha256"],
                ),
                "resumed": (
                    {**LONG, "selection": "stale-pps", "update": "skip-step"},
                    json.loads(resumed[0]["data"])["parameters_sha256"],
                ),
            },
            home,
        )
        trash = {row["id"]: json.loads(row["data"]) for row in rows("SELECT id, data FROM trash")}
        in_trash = trash[ids["in-trash"]]
        expected = {
            "user_version": version,
            "recorded_on": recorded_on(),
            **about,
            "runs": {
                run["run_id"]: expected_of(run, run["run_id"] in ids.values())
                for run in rows("SELECT * FROM runs ORDER BY created_unix")
            },
            "trash": {ids["in-trash"]: expected_of(in_trash)},
            "continued": continued,
            "studies": rows("SELECT study_id, arm, seed, run_id FROM study_runs"),
            "fingerprints": fingerprints(),
        }
        check_anonymous(home)
        FOLDER.mkdir(exist_ok=True)
        pack(home, archive)
        shutil.copy(scratch / "run.zip", FOLDER / f"v{version}-run.zip")
        (FOLDER / f"v{version}.json").write_text(to_text(expected), encoding="utf-8")
        for path in sorted(FOLDER.glob(f"v{version}[.-]*")):
            click.echo(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
