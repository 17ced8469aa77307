"""How a run is written down so that it can be repeated: as settings, and as a command line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from effcore.config import ConfigError
from effcore.events import KnobChange, RunConfig, Snapshot
from effcore.knobs import knobs_of
from effcore.selection.base import SELECTIONS
from effcore.tasks.base import TASKS

_LOOP = """\
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


def parse_change(text: str) -> KnobChange:
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


def to_settings(config: RunConfig) -> dict[str, str]:
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


def to_command(config: RunConfig, changes: Sequence[KnobChange] = (), steps: int = 0) -> str:
    """Return the command line that repeats a run, knob changes included.

    Args:
        config: The run's configuration.
        changes: Knob changes that took effect.
        steps: How far the run has got; changes to replay that still lie ahead stay in.
    """
    words = ["python", "-m", "effcore", "run"]
    renamed = {"selection": "policy"}
    for name, value in to_settings(config).items():
        words += ["--" + renamed.get(name, name).replace("_", "-"), value]
    for change in (*changes, *changes_ahead(config, changes, steps)):
        words += ["--set", f"{change.step}:{change.name}={change.value!r}"]
    return shlex.join(words)


def loop_of(look: Snapshot) -> str:
    """Return Python for a training loop of one's own with the thresholds in force, or nothing.

    Nothing where the policy needs more forward passes than such a loop has, or where a run came
    from a version with other tasks or policies. Policies of update and intensity are not in it.
    """
    config = look.config
    if config.task not in TASKS.ids() or config.selection not in SELECTIONS.ids():
        return ""
    task, policy = TASKS.get(config.task), SELECTIONS.get(config.selection)()
    if policy.looks_besides():
        return ""
    settings = {"examples": "len(data)", "batch_size": config.batch_size, "epochs": config.epochs}
    settings |= {} if config.budget is None else {"budget": config.budget}
    settings |= {} if task.loss_kind == "cross_entropy" else {"loss_kind": repr(task.loss_kind)}
    own = {spec.name: look.knobs.get(spec.name) for spec in knobs_of(policy)}
    settings |= {name: value for name, value in own.items() if value is not None}
    given = "".join(f"    {name}={value},\n" for name, value in settings.items())
    return _LOOP.format(policy=config.selection, given=given)


def changes_ahead(config: RunConfig, changes: Sequence[KnobChange], steps: int) -> list[KnobChange]:
    """Return the changes to replay that have not taken effect after so many steps."""
    known = {(change.step, change.name) for change in changes}
    return [c for c in config.changes if c.step >= steps and (c.step, c.name) not in known]


def command_of(look: Snapshot) -> str:
    """Return the command line that repeats the run, as far as it was steered."""
    return to_command(look.config, look.changes, look.steps_done)
