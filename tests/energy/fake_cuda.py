"""What torch tells of the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, by CUDA's rules.

From the CUDA C++ Programming Guide, "CUDA Environment Variables": numbers or UUIDs, which
may be shortened as long as they are unique; what follows an invalid one is invisible.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace

import torch


class Cuda:
    """The boards of a machine as CUDA orders them.

    Args:
        uuids: Their UUIDs, without prefix.
    """

    def __init__(self, uuids: Sequence[str]) -> None:
        self.uuids = uuids
        self.initialised = False

    def visible(self) -> list[str]:
        """Return the UUIDs of the devices that torch numbers from 0."""
        variable = os.environ.get("CUDA_VISIBLE_DEVICES")
        if variable is None:
            return list(self.uuids)
        found: list[str] = []
        for entry in variable.split(","):
            matches = self._matching(entry.strip())
            if len(matches) != 1:
                break
            found += matches
        return found if len(set(found)) == len(found) else []

    def _matching(self, entry: str) -> list[str]:
        if entry.isdecimal():
            return [self.uuids[int(entry)]] if int(entry) < len(self.uuids) else []
        name = entry.removeprefix("GPU-")
        return [uuid for uuid in self.uuids if name != entry and uuid.startswith(name)]

    def properties(self, device: torch.device) -> SimpleNamespace:
        """Stand in for ``torch.cuda.get_device_properties``."""
        assert device.type == "cuda"
        visible = self.visible()
        if not visible:
            raise RuntimeError("No CUDA GPUs are available")
        if (device.index or 0) >= len(visible):
            raise AssertionError("Invalid device id")
        return SimpleNamespace(uuid=visible[device.index or 0])
