"""Reproduction of runs: configurations as settings, command lines and training-loop code."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from effcore.config import ConfigError
from effcore.knobs import knobs_of
from effcore.policies.selection.base import SELECTIONS
from effcore.records import KnobChange, RunConfig, Snapshot
from effcore.tasks.base import TASKS

_LOOP_TEMPLATE = """\
import effcore

selector = effcore.selector(
    "{policy}",
{given})
for batch in selector:  # indices into your data, in all epochs
    outputs = model(data[batch])
    losses = loss_of_each(outputs, targets[batch])  # reduction="none"
    loss = selector.loss(batch, losses, outputs, targets[batch])
    ...  # backward and step; let the learning rate follow selector.progress
"""


def parse_knob_change(text: str) -> KnobChange:
    """Parse ``STEP:name=value`` as printed by a steered run.

    Raises:
        ConfigError: The text has another form.
    """
    step, colon, rest = text.partition(":")
    name, equals, value = rest.partition("=")
    try:
        if not (colon and equals):
            raise ValueError
        number = float(value)
        is_whole = number.is_integer() and "." not in value and "e" not in value.lower()
        return KnobChange(
            int(step), name.strip().replace("-", "_"), int(value) if is_whole else number
        )
    except ValueError:
        raise ConfigError(
            "set", f"--set {text!r} is not understood: expected STEP:name=value, e.g. 120:mass=0.5"
        ) from None


def config_to_settings(config: RunConfig) -> dict[str, str]:
    """Return the configuration as flat text settings; inverse of :func:`effcore.config.resolve`.

    Floats are written with ``repr``, so that every bit is preserved. Unset knobs are left out, and
    so are knob changes, which a link does not hold.
    """
    skip = {"knobs", "data", "changes"}
    fields = {n: getattr(config, n) for n in RunConfig.__slots__ if n not in skip}
    settings = {name: value for name, value in fields.items() if value is not None}
    settings |= dict(config.data)
    settings |= {name: value for name, value in config.knobs.items() if value is not None}
    return {name: repr(v) if isinstance(v, float) else str(v) for name, v in settings.items()}


def config_to_command(config: RunConfig, changes: Sequence[KnobChange] = (), steps: int = 0) -> str:
    """Return the command line that reproduces a run, knob changes included.

    Args:
        config: The run's configuration.
        changes: Knob changes that took effect.
        steps: Steps done; changes of the configuration from this step on are included.
    """
    words = ["python", "-m", "effcore", "run"]
    option_names = {"selection": "policy"}
    for name, value in config_to_settings(config).items():
        words += ["--" + option_names.get(name, name).replace("_", "-"), value]
    for change in (*changes, *changes_not_reached(config, changes, steps)):
        words += ["--set", f"{change.step}:{change.name}={change.value!r}"]
    return shlex.join(words)


def training_loop_code(snapshot: Snapshot) -> str:
    """Return Python code for a custom training loop with the run's current knob values.

    The code has the selection policy, but no update or intensity policy. It is empty if the policy
    needs an extra forward pass, or if the run's task or policy is not registered.
    """
    config = snapshot.config
    if config.task not in TASKS.ids() or config.selection not in SELECTIONS.ids():
        return ""
    task, policy = TASKS.get(config.task), SELECTIONS.get(config.selection)()
    if policy.needs_extra_forward():
        return ""
    settings = {"examples": "len(data)", "batch_size": config.batch_size, "epochs": config.epochs}
    settings |= {} if config.budget is None else {"budget": config.budget}
    settings |= {} if task.loss_kind == "cross_entropy" else {"loss_kind": repr(task.loss_kind)}
    own = {spec.name: snapshot.knobs.get(spec.name) for spec in knobs_of(policy)}
    settings |= {name: value for name, value in own.items() if value is not None}
    given = "".join(f"    {name}={value},\n" for name, value in settings.items())
    return _LOOP_TEMPLATE.format(policy=config.selection, given=given)


def changes_not_reached(
    config: RunConfig, changes: Sequence[KnobChange], steps: int
) -> list[KnobChange]:
    """Return the knob changes to replay that have not taken effect after ``steps`` steps."""
    applied = {(change.step, change.name) for change in changes}
    return [c for c in config.changes if c.step >= steps and (c.step, c.name) not in applied]


def reproduce_command(snapshot: Snapshot) -> str:
    """Return the command line that reproduces a run, knob changes included."""
    return config_to_command(snapshot.config, snapshot.changes, snapshot.steps_done)
