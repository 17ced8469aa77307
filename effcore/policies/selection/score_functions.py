"""What selection policies share: probabilities in proportion to scores, gates and floors.

Everything works on whole tensors and reads nothing to the host.
"""

from __future__ import annotations

import torch

#: Scores below this share of the mean count as if they were it.
_MIN_RELATIVE_SCORE = 1e-6


def winsorise_scores(score_N: torch.Tensor, quantile: float) -> torch.Tensor:
    """Return scores with the highest cut to a quantile of those known (Winsor's limit).

    Mislabelled examples keep the highest losses to the end; without a limit they would be
    drawn, and weighted, as if there were most to learn from them.

    Args:
        score_N: float32, not negative; ``inf`` where unknown, which stays.
        quantile: Share of the known scores that stay as they are, 0 to 1.
    """
    known_N = score_N.isfinite()
    ordered = torch.where(known_N, score_N, torch.inf).sort().values
    place = (quantile * (known_N.sum() - 1)).ceil().long().clamp_min(0)
    limit = ordered.gather(0, place[None])[0]
    return torch.where(known_N, score_N.minimum(limit), score_N)


def proportional_probabilities(
    score_N: torch.Tensor,
    keep: float | torch.Tensor,
    uniform: torch.Tensor,
    active_mask_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return inclusion probabilities proportional to mixed scores, with a given mean.

    q = (1 - u) s / mean(s) + u and pi = min(1, c q), where c makes the mean of pi the wanted
    share: sampling with probability proportional to size, without replacement (Horvitz and
    Thompson 1952). An unknown score has pi = 1.

    Args:
        score_N: float32, not negative; ``inf`` where unknown.
        keep: Share of the examples to draw, on average.
        uniform: 0-d, u in [0, 1], the share of the uniform distribution.
        active_mask_N: bool, the examples that can be drawn; the others have pi = 1 and take no
            places. ``None`` for all.
    """
    known_N = score_N.isfinite()
    new_N: torch.Tensor = ~known_N
    count: int | torch.Tensor = len(score_N)
    if active_mask_N is not None:
        known_N, new_N, count = known_N & active_mask_N, new_N & active_mask_N, active_mask_N.sum()
    score_N = torch.where(known_N, score_N, 0.0)
    n_known = known_N.sum().clamp_min(1)
    mean = score_N.sum() / n_known
    flat_N = torch.ones_like(score_N)
    relative_N = torch.where(mean > 0, score_N / mean.clamp_min(1e-30), flat_N)
    relative_N = relative_N.clamp_min(_MIN_RELATIVE_SCORE)
    mixed_N = (1.0 - uniform) * relative_N + uniform
    # What is unknown is drawn for certain; the others share what is left.
    wanted = ((keep * count - new_N.sum()) / n_known).clamp(0.0, 1.0)
    scale = _probability_scale(torch.where(known_N, mixed_N, 0.0), wanted * n_known)
    pi_N = (scale * mixed_N).clamp(torch.finfo(torch.float32).tiny, 1.0)
    return torch.where(known_N, pi_N, 1.0)


def _probability_scale(mixed_N: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Return c with sum(min(1, c q)) = total.

    With the k largest certain, c = (total - k) / (sum of the others); k is the smallest for
    which none of the others would have more than 1.
    """
    ordered_N = mixed_N.double().sort(descending=True).values
    others_N = ordered_N.flip(0).cumsum(0).flip(0)
    certain_N = torch.arange(len(mixed_N), device=mixed_N.device)
    scale_N = (total - certain_N) / others_N.clamp_min(1e-300)
    fits_N = scale_N * ordered_N <= 1.0 + 1e-9
    return scale_N.gather(0, fits_N.int().argmax()[None])[0].float()


def least_variance_uniform_share(
    stale_N: torch.Tensor, fresh_N: torch.Tensor, keep: float, uniform: torch.Tensor
) -> torch.Tensor:
    """Return the share of the uniform distribution that promises the least variance, 0-d.

    The second moment of the weighted gradient is proportional to the mean of s'**2 / pi,
    where pi comes from scores as they were and s' is what the score turned out to be. Of the
    shares tried, 1 is uniform sampling: where scores say nothing of what follows, that wins.
    The test of Katharopoulos and Fleuret 2018, section 3.3 (their tau), without its extra
    forward passes.

    Args:
        stale_N: float32, each example's score before it was last trained on.
        fresh_N: float32, what was then found.
        keep: Share of the examples to draw.
        uniform: 0-d, the share asked for; no less is tried.
    """
    both_N = stale_N.isfinite() & fresh_N.isfinite()
    stale_N = torch.where(both_N, stale_N, torch.inf)
    square_N = torch.where(both_N, fresh_N, 0.0).double().square()
    # Whoever was not seen twice tells nothing, and is to take no places of those who were.
    of_all = keep + (1.0 - keep) * (~both_N).float().mean()
    shares = [uniform + (1.0 - uniform) * step for step in (0.0, 0.5, 1.0)]
    moments = [
        (square_N / proportional_probabilities(stale_N, of_all, share)).sum() for share in shares
    ]
    return torch.stack(shares).gather(0, torch.stack(moments).argmin()[None])[0]


def raise_to_class_floor(
    pi_N: torch.Tensor, group_N: torch.Tensor | None, groups: int, floor: float
) -> torch.Tensor:
    """Raise probabilities so that no class falls below a share of what is drawn on average.

    A class whose mean probability m lies below f times that of all has its probabilities
    moved towards 1 until their mean is that; none is lowered.

    Args:
        pi_N: float32 inclusion probabilities.
        group_N: int64 class of each example, or ``None``.
        groups: Number of classes.
        floor: f in [0, 1].
    """
    if group_N is None or floor == 0.0:
        return pi_N
    zeros = torch.zeros(groups, dtype=pi_N.dtype, device=pi_N.device)
    counts = zeros.index_add(0, group_N, torch.ones_like(pi_N)).clamp_min(1.0)
    mean_G = zeros.index_add(0, group_N, pi_N) / counts
    missing_G = (floor * pi_N.mean() - mean_G).clamp_min(0.0)
    step_G = missing_G / (1.0 - mean_G).clamp_min(1e-12)
    return (pi_N + (1.0 - pi_N) * step_G.gather(0, group_N)).clamp_max(1.0)


def el2n_scores(outputs: torch.Tensor, targets: torch.Tensor, loss_kind: str) -> torch.Tensor:
    """Return each example's EL2N score, the norm of prediction minus truth, shape (B,).

    For classes that is ||softmax(z) - y||_2 (Paul et al. 2021, *Deep Learning on a Data
    Diet*, section 3.2); where an example has many predictions, as a text has, their mean.
    For numbers it is the distance itself.
    """
    if loss_kind == "squared_error":
        missed = outputs.float().flatten(1) - targets[..., None].flatten(1)
        return missed.square().sum(-1).sqrt()
    probability = outputs.float().softmax(-1)
    own = probability.gather(-1, targets[..., None])[..., 0]
    square = probability.square().sum(-1) - own.square() + (1.0 - own).square()
    norm: torch.Tensor = square.clamp_min(0.0).sqrt()[..., None].flatten(1).mean(-1)
    return norm


def prediction_confidence(
    outputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each example's highest probability and whether it is the true class's, (B,) each.

    Where an example has many predictions: the mean, and whether most are right.
    """
    probability, told = outputs.float().softmax(-1).max(-1)
    right = (told == targets).float()[..., None].flatten(1).mean(-1) > 0.5
    return probability[..., None].flatten(1).mean(-1), right


def systematic_sample(pi_M: torch.Tensor, count: int, uniform: torch.Tensor) -> torch.Tensor:
    """Draw exactly ``count`` places, the i-th with probability pi_i scaled to that sum.

    Systematic sampling (Madow 1949): one uniform number sets ``count`` evenly spaced ticks
    on the running sum of probabilities. Shapes are fixed, so that nothing waits for the
    device. The order of the places must be random with respect to their scores.

    Args:
        pi_M: Not negative; those above 1 after scaling are drawn for certain.
        count: Places to draw, M at most.
        uniform: float64, 0-d, in [0, 1).
    """
    scaled_M = pi_M.double() * (count / pi_M.double().sum().clamp_min(1e-300))
    for _ in range(_CERTAIN_ROUNDS):  # what exceeds 1 is certain; the others share what is left
        certain_M = scaled_M >= 1.0
        rest = (count - certain_M.sum()).clamp_min(0)
        open_M = torch.where(certain_M, 0.0, scaled_M)
        scaled_M = torch.where(certain_M, 1.0, open_M * rest / open_M.sum().clamp_min(1e-300))
        scaled_M = scaled_M.clamp_max(1.0)
    running_M = scaled_M.cumsum(0)
    ticks = (uniform + torch.arange(count, device=pi_M.device)) * running_M[-1] / count
    return torch.searchsorted(running_M, ticks, right=True).clamp_max(len(pi_M) - 1)


_CERTAIN_ROUNDS = 8
