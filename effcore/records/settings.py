"""Settings of a run, by name, before they are checked."""

from __future__ import annotations

from collections.abc import Mapping

from effcore.records import KnobChange

#: Ids of full training's policies: selection, update, intensity.
DENSE_POLICY_IDS = ("dense", "every-step", "full")
#: One setting: a number or an id, either as text too; ``None`` stands for the default. Knob
#: changes alone come as a sequence.
SettingValue = str | float | list[KnobChange] | tuple[KnobChange, ...] | None
Settings = Mapping[str, SettingValue]
