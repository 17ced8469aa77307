"""Between a run's tensors and the plain arrays of its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from effcore.training.checkpoint import Array, CheckpointError, State


def copy_state_to_host(node: Any) -> Any:
    """Return a state in which every tensor and array is a copy, an array in host memory."""
    if isinstance(node, torch.Tensor):
        return node.detach().to("cpu", copy=True).numpy()
    if isinstance(node, np.ndarray):
        return node.copy()
    if isinstance(node, Mapping):
        return {name: copy_state_to_host(below) for name, below in node.items()}
    if isinstance(node, list | tuple):
        return [copy_state_to_host(below) for below in node]
    return node


def tensor_from_array(array: Array, device: torch.device) -> torch.Tensor:
    """Return an array as a tensor in memory of PyTorch's own."""
    return torch.from_numpy(array).to(device, copy=True)


def optional_tensor_from_array(array: Array | None, device: torch.device) -> torch.Tensor | None:
    """Return an array as a tensor, nothing as nothing."""
    return None if array is None else tensor_from_array(array, device)


def copy_arrays_into(tensors: Mapping[str, torch.Tensor], arrays: Mapping[str, Array]) -> None:
    """Put arrays into the tensors of the same names, in place.

    Raises:
        CheckpointError: Names, shapes or types differ.
    """
    if tensors.keys() != arrays.keys():
        odd = sorted(tensors.keys() ^ arrays.keys())
        raise CheckpointError(f"it has other parts than the run: {', '.join(odd)}")
    for name, tensor in tensors.items():
        found = torch.from_numpy(arrays[name])
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise CheckpointError(
                f"its {name} is {found.dtype} of shape {tuple(found.shape)}, and the run's is "
                f"{tensor.dtype} of shape {tuple(tensor.shape)}"
            )
        with torch.no_grad():
            tensor.copy_(found)


def restore_generator(generator: torch.Generator, state: Array) -> None:
    """Put a generator where another one was; its state is on the host, whatever it draws for."""
    generator.set_state(torch.from_numpy(state).clone())


def model_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, those too that are not persistent."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def optimizer_state(optimizer: torch.optim.Optimizer) -> State:
    """Return what an optimizer keeps of each parameter, by the parameter's place.

    The learning rate is not in it: it is set anew for each step.
    """
    kept = enumerate(_optimizer_parameters(optimizer))
    return {str(i): dict(optimizer.state[p]) for i, p in kept if p in optimizer.state}


def restore_optimizer(optimizer: torch.optim.Optimizer, state: State) -> None:
    """Give a fresh optimizer what another one kept."""
    parameters = _optimizer_parameters(optimizer)
    for place, kept in state.items():
        parameter = parameters[int(place)]
        optimizer.state[parameter] = {
            name: tensor_from_array(value, parameter.device)
            if isinstance(value, np.ndarray)
            else value
            for name, value in kept.items()
        }


def _optimizer_parameters(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
