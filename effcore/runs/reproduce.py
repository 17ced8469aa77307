"""How a run is written down so that it can be repeated: as settings, and as a command line."""

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
for batch in selector:  # indices into your data, of all passes
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
        whole = number.is_integer() and "." not in value and "e" not in value.lower()
        return KnobChange(
            int(step), name.strip().replace("-", "_"), int(value) if whole else number
        )
    except ValueError:
        raise ConfigError(
            "set", f"--set {text!r} is not understood: expected STEP:name=value, e.g. 120:mass=0.5"
        ) from None


def config_to_settings(config: RunConfig) -> dict[str, str]:
    """Return the configuration as flat text settings, :func:`resolve`'s inverse.

    Floats are written with ``repr`` so that they come back to the last bit. Knobs that
    are not in force are left out, and so is what a link has no use for (``changes``).
    """
    skip = {"knobs", "data", "changes"}
    fields = {n: getattr(config, n) for n in RunConfig.__slots__ if n not in skip}
    settings = {name: value for name, value in fields.items() if value is not None}
    settings |= dict(config.data)
    settings |= {name: value for name, value in config.knobs.items() if value is not None}
    return {name: repr(v) if isinstance(v, float) else str(v) for name, v in settings.items()}


def config_to_command(config: RunConfig, changes: Sequence[KnobChange] = (), steps: int = 0) -> str:
    """Return the command line that repeats a run, knob changes included.

    Args:
        config: The run's configuration.
        changes: Knob changes that took effect.
        steps: How far the run has got; changes to replay that still lie ahead stay in.
    """
    words = ["python", "-m", "effcore", "run"]
    renamed = {"selection": "policy"}
    for name, value in config_to_settings(config).items():
        words += ["--" + renamed.get(name, name).replace("_", "-"), value]
    for change in (*changes, *changes_not_reached(config, changes, steps)):
        words += ["--set", f"{change.step}:{change.name}={change.value!r}"]
    return shlex.join(words)


def training_loop_code(snapshot: Snapshot) -> str:
    """Return Python for a training loop of one's own with the thresholds in force, or nothing.

    Nothing where the policy needs more forward passes than such a loop has, or where a run came
    from a version with other tasks or policies. Policies of update and intensity are not in it.
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
    """Return the changes to replay that have not taken effect after so many steps."""
    known = {(change.step, change.name) for change in changes}
    return [c for c in config.changes if c.step >= steps and (c.step, c.name) not in known]


def reproduce_command(snapshot: Snapshot) -> str:
    """Return the command line that repeats the run, as far as it was steered."""
    return config_to_command(snapshot.config, snapshot.changes, snapshot.steps_done)
