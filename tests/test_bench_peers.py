"""What of the comparison needs no peer: the choice of a trial, the table and the targets."""

from __future__ import annotations

import numpy as np

from bench import peers_estimates
from bench.peers import OURS, PEERS, log_of_testbed, targets_of, told, worth_of
from bench.replicates import Record
from nba_tasks.dataset import FloatArray
from nba_tasks.learners.behaviour import BehaviourModel
from nba_tasks.policy import QFunction, ServedPolicy
from nba_tasks.simulators import testbed
from nba_tasks.train import fit_values


class Reversed:
    """The opposite of some action values."""

    def __init__(self, q: QFunction) -> None:
        self.q = q

    def values(self, state: FloatArray) -> FloatArray:
        found: FloatArray = -self.q.values(state)
        return found


def test_the_select_split_tells_a_good_trial_from_a_bad_one() -> None:
    log = log_of_testbed(3)
    behaviour = BehaviourModel.fit(log.learn, seed=0)
    likely = behaviour.probabilities(log.learn.state, log.learn.eligible_target)
    good = fit_values(log.programme, log.learn, log.catalogue, likely, 0).q
    served = [ServedPolicy(behaviour, q, behaviour, support=0.0, mix=1.0, epsilon=0.0) for q in (good, Reversed(good))]
    worth = worth_of(log, served)
    assert worth[0] > worth[1] + 1


def records(gain: float) -> tuple[list[Record], list[Record]]:
    """Two testbeds and eight markets in which this project earns `gain` more than every peer."""
    testbeds: list[Record] = [{"share": {OURS: 1.0, **dict.fromkeys(PEERS, 0.9)}}] * 2
    seconds = dict.fromkeys((OURS, *PEERS), 60.0)
    markets: list[Record] = [
        {
            "value": {OURS: 5.0, **dict.fromkeys(PEERS, 5.0 - gain)},
            "gain": {name: [gain + 0.001 * i, 0.1] for name in PEERS},
            "seconds": seconds,
        }
        for i in range(8)
    ]
    return testbeds, markets


def test_losses_are_told_and_fall_short() -> None:
    testbeds, markets = records(-0.5)
    table = told(testbeds, markets, dict.fromkeys((OURS, *PEERS), 1.0))
    assert "0 / 8 of 8" in table[-1]
    assert {str(t).split()[-1] for t in targets_of(testbeds, markets, quick=False)[1:]} == {"short"}


def test_gains_are_told_and_hold() -> None:
    testbeds, markets = records(0.5)
    assert "8 / 0 of 8" in told(testbeds, markets, dict.fromkeys((OURS, *PEERS), 1.0))[-1]
    assert all(target.holds for target in targets_of(testbeds, markets, quick=False))


def test_the_rules_given_to_the_peers_are_the_testbed_s() -> None:
    log = testbed.to_transitions(testbed.simulate(20, 1))
    np.testing.assert_array_equal(peers_estimates.rules(log.state), log.eligible_target)


def test_our_estimates_of_a_policy_lie_around_its_value() -> None:
    """DR within 4.5 standard errors of the exact value, if its error is at most half as large again as that of the
    log's own mean (7 in a million)."""
    policy = peers_estimates.mixed_policy
    learn, judged = (testbed.to_transitions(testbed.simulate(2_000, seed)) for seed in (1, 2))
    found = peers_estimates.our_estimates(learn, judged, policy)
    error = float(np.std(judged.reward.reshape(-1, testbed.EPOCHS).sum(axis=1))) / np.sqrt(2_000)
    assert abs(found[peers_estimates.DECIDES] - testbed.policy_value(policy)) < 4.5 * 1.5 * error


def test_only_a_sure_loss_of_the_deciding_estimate_counts() -> None:
    """One peer errs less in every log, another more, a third is better or worse by the log."""

    def record(number: int) -> Record:
        deciding = 0.2 + 0.001 * number
        errors = {peers_estimates.DECIDES: deciding, "SCOPE-RL: DM": 0.4, "SCOPE-RL: DR": deciding / 2}
        errors |= {"SCOPE-RL: SN-DR": deciding + 0.1 * (-1) ** number}
        errors |= {f"{peers_estimates.OURS}: {mine}": 0.3 for mine, _ in peers_estimates.SAME}
        errors |= dict.fromkeys((theirs for _, theirs in peers_estimates.SAME), 0.3)
        return {"error": dict.fromkeys(peers_estimates.POLICIES, errors), "seconds": {}}

    records = [record(number) for number in range(20)]
    assert peers_estimates.surely_better(records) == [f"SCOPE-RL: DR for {one}" for one in peers_estimates.POLICIES]
    worse, same = peers_estimates.targets_of(records)
    assert str(worse).split()[2:] == ["2", "0", "short"]
    assert same.holds
