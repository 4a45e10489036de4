from __future__ import annotations

import numpy as np
import pytest

from nba_tasks.estimators import per_decision
from nba_tasks.gate.exhibits.values import EPSILONS, LEARNED, Alternative, exploration_values, policy_values
from tests.gate.cases import make_sample
from tests.tiny_mdp import BETTER, FATIGUE, LOGGING, WORSE, by_row

RANDOM = np.full((2, 2), 0.5)


def test_values_hold_the_truth_whatever_the_critic() -> None:
    """One window a customer; the truth by recursion; each estimate within 4.5 standard errors (7 in a million, each).
    The critic is `LOGGING`'s model under each policy's own probabilities: poor for the others, and harmless."""
    sample, log = make_sample(20_000, epochs=4)
    policies = {"better": BETTER, "worse": WORSE, "logging": LOGGING, "random": RANDOM}
    with_critic = [
        Alternative(n, "baseline", by_row(p, log), FATIGUE.critic(p, log, sample.windows, 0.9, model=LOGGING))
        for n, p in policies.items()
    ]
    without = [Alternative(n, "baseline", by_row(p, log)) for n, p in policies.items()]
    precise, plain = (policy_values(sample, some, 0.05)[0] for some in (with_critic, without))
    for found in (precise, plain):
        for one, table in zip(found, policies.values(), strict=False):
            assert abs(one.value - FATIGUE.value(table, 4, 0.9)) < 4.5 * one.standard_error
            assert one.lower < one.value < one.upper
    assert all(a.standard_error < b.standard_error for a, b in zip(precise[:-1], plain[:-1], strict=True))
    assert {one.estimator for one in precise} == {"DR", "observed"}
    assert {one.estimator for one in plain} == {"PDIS", "observed"}


def test_the_log_comes_last_and_is_its_own_mean() -> None:
    sample, log = make_sample(300)
    (itself, observed), _ = policy_values(sample, [Alternative("itself", "incumbent", by_row(LOGGING, log))], 0.05)
    assert (observed.kind, observed.effective_share) == ("log", 1.0)
    mean = per_decision(np.ones_like(sample.rewards), sample.rewards, 0.9).mean()
    assert observed.value == pytest.approx(mean)
    assert itself.value == pytest.approx(mean)
    assert itself.effective_size == pytest.approx(len(sample.windows))


def test_the_learned_policy_is_compared_with_what_comes_after_it() -> None:
    """Paired: its gain over itself is 0 for sure, and over another each interval holds the difference of the values
    (4.5 standard errors: 7 in a million)."""
    sample, log = make_sample(5_000, epochs=4)
    policies = {"incumbent": LOGGING, LEARNED: BETTER, "the same": BETTER, "worse": WORSE}
    values, gains = policy_values(
        sample, [Alternative(n, "baseline", by_row(p, log)) for n, p in policies.items()], 0.05
    )
    assert [gain.over for gain in gains] == ["the same", "worse"]
    assert (gains[0].value, gains[0].standard_error) == (0.0, 0.0)
    by_name = {one.policy: one.value for one in values}
    assert gains[1].value == pytest.approx(by_name[LEARNED] - by_name["worse"])
    truth = FATIGUE.value(BETTER, 4, 0.9) - FATIGUE.value(WORSE, 4, 0.9)
    assert abs(gains[1].value - truth) < 4.5 * gains[1].standard_error
    assert gains[1].lower < gains[1].value < gains[1].upper


def test_full_exploration_is_the_random_policy() -> None:
    sample, log = make_sample(500)

    def explored(epsilon: float) -> Alternative:
        return Alternative("", "candidate", by_row((1 - epsilon) * BETTER + epsilon * RANDOM, log))

    found = exploration_values(sample, explored, 0.05)
    assert [one.epsilon for one in found] == list(EPSILONS)
    ends, _ = policy_values(sample, [explored(0), explored(1)], 0.05)
    assert (found[0].value, found[-1].value) == (ends[0].value, ends[1].value)
    assert found[-1].effective_size > found[0].effective_size, "the log is nearly random"
