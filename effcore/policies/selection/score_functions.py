"""Functions of scores that selection policies share: probabilities, gates, floors, sampling.

All work on whole tensors and read nothing to the host.
"""

from __future__ import annotations

import torch

from effcore.records.deprecation import with_old_keywords

#: Scores are raised to at least this share of the mean score.
_MIN_RELATIVE_SCORE = 1e-6


def winsorise_scores(score_N: torch.Tensor, quantile: float) -> torch.Tensor:
    """Return the scores, with the highest cut to a quantile of the known ones (winsorising).

    Mislabelled examples keep the highest losses to the end of a run. Without a limit they would
    be drawn most, although nothing is to be learned from them.

    Args:
        score_N: float32, not negative; ``inf`` where unknown, which stays ``inf``.
        quantile: Share of the known scores that stay unchanged, 0 to 1.
    """
    known_N = score_N.isfinite()
    ordered = torch.where(known_N, score_N, torch.inf).sort().values
    place = (quantile * (known_N.sum() - 1)).ceil().long().clamp_min(0)
    limit = ordered.gather(0, place[None])[0]
    return torch.where(known_N, score_N.minimum(limit), score_N)


@with_old_keywords
def proportional_probabilities(
    score_N: torch.Tensor,
    keep: float | torch.Tensor,
    uniform: torch.Tensor,
    active_mask_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return inclusion probabilities proportional to mixed scores, with a given mean.

    q = (1 - u) s / mean(s) + u and pi = min(1, c q), where c makes the mean of pi equal to
    ``keep``: sampling with probability proportional to size, without replacement (Horvitz and
    Thompson 1952). An unknown score has pi = 1.

    Args:
        score_N: float32, not negative; ``inf`` where unknown.
        keep: Share of the examples to draw, on average.
        uniform: 0-d, u in [0, 1], the share of the uniform distribution.
        active_mask_N: bool, the examples that can be drawn; the others have pi = 1 and do not
            count towards ``keep``. ``None`` for all.
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
    # Examples of unknown score are drawn for certain; the rest of the share goes to the others.
    drawn_share = ((keep * count - new_N.sum()) / n_known).clamp(0.0, 1.0)
    scale = _probability_scale(torch.where(known_N, mixed_N, 0.0), drawn_share * n_known)
    pi_N = (scale * mixed_N).clamp(torch.finfo(torch.float32).tiny, 1.0)
    return torch.where(known_N, pi_N, 1.0)


def _probability_scale(mixed_N: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Return c with sum(min(1, c q)) = total.

    If the k largest have probability 1, c = (total - k) / (sum of the others); k is the smallest
    number for which no other probability exceeds 1.
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
    """Return the uniform share with the least estimated variance of the gradient, 0-d.

    The second moment of the weighted gradient is proportional to the mean of s'**2 / pi,
    where pi follows from the scores before the step and s' is the score after it. Of the shares
    tried, 1 is uniform sampling, which wins where the scores before do not predict those after.
    This is the test of Katharopoulos and Fleuret 2018, section 3.3 (their tau), without its extra
    forward passes.

    Args:
        stale_N: float32, each example's score before it was last trained on.
        fresh_N: float32, the score after that step.
        keep: Share of the examples to draw.
        uniform: 0-d, the configured share, which is the lowest tried.
    """
    both_N = stale_N.isfinite() & fresh_N.isfinite()
    stale_N = torch.where(both_N, stale_N, torch.inf)
    square_N = torch.where(both_N, fresh_N, 0.0).double().square()
    # Examples trained on fewer than two times have pi = 1; the share of the others stays `keep`.
    keep_of_all = keep + (1.0 - keep) * (~both_N).float().mean()
    shares = [uniform + (1.0 - uniform) * step for step in (0.0, 0.5, 1.0)]
    moments = [
        (square_N / proportional_probabilities(stale_N, keep_of_all, share)).sum()
        for share in shares
    ]
    return torch.stack(shares).gather(0, torch.stack(moments).argmin()[None])[0]


def raise_to_class_floor(
    pi_N: torch.Tensor, group_N: torch.Tensor | None, groups: int, floor: float
) -> torch.Tensor:
    """Raise probabilities so that no class is drawn less than a share of the average.

    If the mean probability of a class lies below f times the mean of all examples, its
    probabilities are moved towards 1 until their mean equals that; none is lowered.

    Args:
        pi_N: float32 inclusion probabilities.
        group_N: int64 class of each example; ``None`` for no classes, which changes nothing.
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
    """Return each example's EL2N score, the norm of prediction minus target, shape (B,).

    For classes that is ||softmax(z) - y||_2 (Paul et al. 2021, *Deep Learning on a Data
    Diet*, section 3.2); for an example with many predictions, such as a text, their mean. For
    a squared error it is the distance itself.
    """
    if loss_kind == "squared_error":
        error = outputs.float().flatten(1) - targets[..., None].flatten(1)
        return error.square().sum(-1).sqrt()
    probability = outputs.float().softmax(-1)
    own = probability.gather(-1, targets[..., None])[..., 0]
    square = probability.square().sum(-1) - own.square() + (1.0 - own).square()
    norm: torch.Tensor = square.clamp_min(0.0).sqrt()[..., None].flatten(1).mean(-1)
    return norm


def confidence_and_correctness(
    outputs: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each example's highest probability and whether that class is right, (B,) each.

    For an example with many predictions: their mean, and whether most are right.
    """
    probability, predicted = outputs.float().softmax(-1).max(-1)
    right = (predicted == targets).float()[..., None].flatten(1).mean(-1) > 0.5
    return probability[..., None].flatten(1).mean(-1), right


def systematic_sample(pi_M: torch.Tensor, count: int, uniform: torch.Tensor) -> torch.Tensor:
    """Draw exactly ``count`` positions, the i-th with probability pi_i scaled to that sum.

    Systematic sampling (Madow 1949): one uniform number sets ``count`` evenly spaced ticks
    on the running sum of probabilities. Shapes are fixed, so that nothing waits for the
    device. The order of the positions must be independent of the scores.

    Args:
        pi_M: Not negative; a value of 1 or more after scaling is drawn for certain.
        count: Positions to draw, M at most.
        uniform: float64, 0-d, in [0, 1).
    """
    scaled_M = pi_M.double() * (count / pi_M.double().sum().clamp_min(1e-300))
    # A probability above 1 is set to 1, and the excess is spread over the others.
    for _ in range(_CERTAIN_ROUNDS):
        certain_M = scaled_M >= 1.0
        rest = (count - certain_M.sum()).clamp_min(0)
        open_M = torch.where(certain_M, 0.0, scaled_M)
        scaled_M = torch.where(certain_M, 1.0, open_M * rest / open_M.sum().clamp_min(1e-300))
        scaled_M = scaled_M.clamp_max(1.0)
    running_M = scaled_M.cumsum(0)
    ticks = (uniform + torch.arange(count, device=pi_M.device)) * running_M[-1] / count
    return torch.searchsorted(running_M, ticks, right=True).clamp_max(len(pi_M) - 1)


_CERTAIN_ROUNDS = 8
