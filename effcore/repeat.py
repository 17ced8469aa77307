"""How a run is written down so that it can be repeated: as settings, and as a command line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from effcore.config import ConfigError
from effcore.events import KnobChange, RunConfig, Snapshot


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


def changes_ahead(config: RunConfig, changes: Sequence[KnobChange], steps: int) -> list[KnobChange]:
    """Return the changes to replay that have not taken effect after so many steps."""
    known = {(change.step, change.name) for change in changes}
    return [c for c in config.changes if c.step >= steps and (c.step, c.name) not in known]


def command_of(look: Snapshot) -> str:
    """Return the command line that repeats the run, as far as it was steered."""
    return to_command(look.config, look.changes, look.steps_done)
