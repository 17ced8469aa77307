"""Conversion between a run's tensors and the NumPy arrays of its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from effcore.training.checkpoint import Array, CheckpointError, State


def copy_state_to_host(node: Any) -> Any:
    """Return a copy of a nested state, with every tensor and array as an array on the host."""
    if isinstance(node, torch.Tensor):
        return node.detach().to("cpu", copy=True).numpy()
    if isinstance(node, np.ndarray):
        return node.copy()
    if isinstance(node, Mapping):
        return {name: copy_state_to_host(child) for name, child in node.items()}
    if isinstance(node, list | tuple):
        return [copy_state_to_host(child) for child in node]
    return node


def tensor_from_array(array: Array, device: torch.device) -> torch.Tensor:
    """Return a copy of an array as a tensor on the device."""
    return torch.from_numpy(array).to(device, copy=True)


def optional_tensor_from_array(array: Array | None, device: torch.device) -> torch.Tensor | None:
    """Return a copy of an array as a tensor on the device; ``None`` for ``None``."""
    return None if array is None else tensor_from_array(array, device)


def copy_arrays_into(tensors: Mapping[str, torch.Tensor], arrays: Mapping[str, Array]) -> None:
    """Copy arrays into the tensors of the same names, in place.

    Raises:
        CheckpointError: Names, shapes or types differ.
    """
    if tensors.keys() != arrays.keys():
        unmatched = sorted(tensors.keys() ^ arrays.keys())
        raise CheckpointError(
            f"its tensors do not match the run's; they differ in {', '.join(unmatched)}"
        )
    for name, tensor in tensors.items():
        source = torch.from_numpy(arrays[name])
        if source.shape != tensor.shape or source.dtype != tensor.dtype:
            raise CheckpointError(
                f"its {name} is {source.dtype} of shape {tuple(source.shape)}, but the run's is "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            )
        with torch.no_grad():
            tensor.copy_(source)


def restore_generator(generator: torch.Generator, state: Array) -> None:
    """Set a generator's state; the state is on the host for every device."""
    generator.set_state(torch.from_numpy(state).clone())


def model_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, non-persistent buffers included."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """Return an optimizer's state of each parameter, by the parameter's index.

    The learning rate is not part of it, since it is set for each step.
    """
    indexed = enumerate(_optimizer_parameters(optimizer))
    return {str(i): dict(optimizer.state[p]) for i, p in indexed if p in optimizer.state}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Set the state of a fresh optimizer."""
    parameters = _optimizer_parameters(optimizer)
    for index, values in state.items():
        parameter = parameters[int(index)]
        optimizer.state[parameter] = {
            name: tensor_from_array(value, parameter.device)
            if isinstance(value, np.ndarray)
            else value
            for name, value in values.items()
        }


def _optimizer_parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
