r"""The gain's bounds without any assumption about tails: reported beside the one that decides, and never chosen.

With rewards in [a, b] and weights of mean 1, :math:`\sum_t \gamma^t \rho_{0:t} (r_t - a)` is never negative, and its
mean is the policy's value less a times :math:`G = \sum_t \gamma^t` (after the end of a relationship rewards are 0 and
weights stay, so that every step counts). `betting.lower_mean` bounds it from below; the same with b - r from above. The
lower bound of the gain is the candidate's lower less the incumbent's upper bound, each at α/2. What the two policies
share does not cancel, so that these bounds are wide.

Reference: Waudby-Smith et al. (2022), Anytime-valid off-policy inference for contextual bandits, arXiv 2210.11133.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nba_tasks.betting import lower_mean
from nba_tasks.dataset import FloatArray
from nba_tasks.gate.sample import Sample

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Robust:
    """Bounds of the gain on one window of each customer.

    Attributes
    ----------
    estimate : float
        PDIS on these windows.
    lower, upper : float
        Each one-sided at the deciding α, valid at all sample sizes at once.
    lowest_reward, highest_reward : float
        The range that rewards were clipped to: the bounds are those of clipped rewards.
    clipped_share : float
        Share of the decisions whose reward was outside it.
    """

    estimate: float
    lower: float
    upper: float
    lowest_reward: float
    highest_reward: float
    clipped_share: float


def robust_bounds(sample: Sample, candidate: FloatArray, alpha: float, reward_range: tuple[float, float]) -> Robust:
    """Bounds of the gain by betting.

    Parameters
    ----------
    sample : Sample
    candidate : array of shape (n, n_actions)
        As for `judge`.
    alpha : float
        Of each bound.
    reward_range : (lowest, highest)
        Of one decision's reward; fixed without a look at the judged customers.
    """
    lowest, highest = min(0.0, reward_range[0]), max(0.0, reward_range[1])
    # By lot, whatever order customers came in.
    lot = np.random.default_rng(0)
    each = sample.windows.one_each(lot.permutation(len(sample.windows)))
    judged = replace(sample, windows=each.take(lot.permutation(len(each))))
    reward = np.clip(judged.rewards, lowest, highest)
    gamma = sample.discount ** np.arange(sample.windows.horizon)
    most = float(gamma.sum()) * (highest - lowest)

    def bounds(weight: Floats) -> tuple[float, float, float]:
        """Estimate, lower and upper bound of one policy's value."""
        if most == 0:
            return 0.0, 0.0, 0.0
        above, below = ((weight * part) @ gamma / most for part in (reward - lowest, highest - reward))
        base, top = lowest * gamma.sum(), highest * gamma.sum()
        low, high = lower_mean(above, alpha / 2), lower_mean(below, alpha / 2)
        return float(((weight * reward) @ gamma).mean()), base + most * low, top - most * high

    mine, theirs = (bounds(judged.weigh(policy)) for policy in (candidate, sample.incumbent))
    outside = judged.reward[judged.rows]
    return Robust(
        estimate=mine[0] - theirs[0],
        lower=mine[1] - theirs[2],
        upper=mine[2] - theirs[1],
        lowest_reward=lowest,
        highest_reward=highest,
        clipped_share=float(((outside < lowest) | (outside > highest)).mean()),
    )
