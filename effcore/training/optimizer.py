"""Optimizers, the learning-rate schedule, and the fingerprint of the parameters."""

from __future__ import annotations

import hashlib

import torch

from effcore.records import RunConfig

#: Share of a run over which the learning rate rises to its peak.
WARMUP_FRAC = 0.06


def learning_rate_factor(progress: float) -> float:
    """Return the share of the peak learning rate at ``progress`` in [0, 1].

    Linear warm-up, then linear decay to zero at the end of the run, so that every run
    decays over its own budget (Kaddour et al. 2023, *No Train No Gain*, section 3).
    """
    if progress < WARMUP_FRAC:
        return progress / WARMUP_FRAC
    return max(0.0, (1 - progress) / (1 - WARMUP_FRAC))


def parameters_sha256(model: torch.nn.Module) -> str:
    """Return the SHA-256 of all parameters and persistent buffers, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def make_optimizer(config: RunConfig, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the configured optimizer over all of the model's parameters."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), config.learning_rate, momentum=0.9, nesterov=True
        )
    return torch.optim.AdamW(model.parameters(), config.learning_rate, fused=True)
