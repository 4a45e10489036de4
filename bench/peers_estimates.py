"""Estimates of d3rlpy, SCOPE-RL and Open Bandit Pipeline beside this project's, where the truth is exact.

On the testbed two policies are judged on logs of the random policy: the best one, and a mix of it with the random one.
Models of value are learned on other customers, as many as are judged: this project's fitted Q evaluation, and d3rlpy's
on its networks, by whose action values SCOPE-RL's model-based estimators go. d3rlpy's takes a next action, not a
distribution over actions: it is given one drawn from the judged policy. Its networks are trained for a number of CPU
seconds that is many times what this project's model takes.

Open Bandit Pipeline knows one decision a customer; a whole trajectory is handed to it as one, with the products of
probabilities. Estimators without a model are the same formulae everywhere: they must agree.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.stats import t as student

from bench.peers_d3rlpy import Decide, evaluated
from bench.replicates import Record
from bench.study_loop import programme_of
from bench.targets import Target
from nba_tasks.dataset import BoolArray, FloatArray, Transitions
from nba_tasks.estimators import (
    Critic,
    cumulative_weights,
    direct_method,
    doubly_robust,
    importance_sampling,
    logged_action_probability,
    on_windows,
    per_decision,
    self_normalised_per_decision,
    weighted_doubly_robust,
    weighted_importance_sampling,
)
from nba_tasks.learners.fqe import fit_fqe, forest_on_returns
from nba_tasks.policy import Floats
from nba_tasks.simulators import testbed
from nba_tasks.windows import cut_windows

DISCOUNT = 1.0
OURS = "this project"


def best_policy(state: FloatArray, eligible: BoolArray) -> Floats:
    return testbed.optimal_policy(np.asarray(state, dtype=np.float32), eligible)


def mixed_policy(state: FloatArray, eligible: BoolArray) -> Floats:
    return np.asarray(0.4 * best_policy(state, eligible) + 0.6 * eligible / eligible.sum(axis=1, keepdims=True))


POLICIES: dict[str, Decide] = {"the best policy": best_policy, "a mix": mixed_policy}
DECIDES = f"{OURS}: DR"
"""What the gate goes by."""


def play_estimates(customers: int, seconds: float, number: int) -> Record:
    """The estimates of one log, less the truth, by policy and estimator; and the seconds of both models."""
    learn, judged = (
        testbed.to_transitions(testbed.simulate(customers, seed)) for seed in (20_000 + number, 30_000 + number)
    )
    found, took = {}, {}
    for name, policy in POLICIES.items():
        truth = testbed.policy_value(policy)
        begun = time.process_time()
        ours = our_estimates(learn, judged, policy)
        middle = time.process_time()
        q = evaluated(policy, rules, learn, judged.state, DISCOUNT, seconds, number)
        theirs = peers_estimates(judged, policy, q)
        took[name] = [middle - begun, time.process_time() - middle]
        found[name] = {estimator: value - truth for estimator, value in (ours | theirs).items()}
    return {"error": found, "seconds": took}


def our_estimates(learn: Transitions, judged: Transitions, policy: Decide) -> dict[str, float]:
    """Each estimator's value of a policy on the judged log."""
    catalogue, settings = testbed.catalogue(), programme_of("testbed").learning
    forest = forest_on_returns(
        learn,
        catalogue,
        horizon=testbed.EPOCHS,
        discount=DISCOUNT,
        trees=settings.trees,
        min_samples_leaf=settings.min_samples_leaf,
    )
    model = fit_fqe(
        learn,
        catalogue,
        policy(learn.state, learn.eligible_target),
        horizon=testbed.EPOCHS,
        discount=DISCOUNT,
        forest=forest,
    )
    windows = cut_windows(judged, testbed.EPOCHS)
    probabilities = policy(judged.state, judged.eligible_target)
    critic = Critic.of(partial(model.values, judged.state), probabilities, judged.action, windows)
    weight = cumulative_weights(
        logged_action_probability(probabilities, judged.action, windows), judged.propensity, windows
    )
    reward, alive = on_windows(judged.reward, windows), windows.alive
    influence = {
        "IS": importance_sampling(weight, reward, DISCOUNT),
        "WIS": weighted_importance_sampling(weight, reward, DISCOUNT),
        "PDIS": per_decision(weight, reward, DISCOUNT),
        "SN-PDIS": self_normalised_per_decision(weight, reward, DISCOUNT),
        "DM": direct_method(critic),
        "DR": doubly_robust(weight, reward, DISCOUNT, critic, alive),
        "WDR": weighted_doubly_robust(weight, reward, DISCOUNT, critic, alive),
    }
    return {f"{OURS}: {name}": float(values.mean()) for name, values in influence.items()}


def rules(state: FloatArray) -> BoolArray:
    """The testbed's: nothing in the first epoch, an offer in each later one."""
    first = state[:, testbed.FEATURES.index("epoch")] == 0
    return np.column_stack((first, *[~first] * len(testbed.OFFERS)))


def peers_estimates(judged: Transitions, policy: Decide, q: Floats) -> dict[str, float]:
    """What the peers' estimators say of a policy, given d3rlpy's action values (n, n_actions)."""
    from obp.ope import InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting
    from scope_rl.ope import discrete

    probabilities = np.asarray(policy(judged.state, judged.eligible_target), dtype=np.float64)
    log = {
        "step_per_trajectory": testbed.EPOCHS,
        "action": judged.action,
        "reward": judged.reward,
        "pscore": judged.propensity,
        "evaluation_policy_action_dist": probabilities,
        "state_action_value_prediction": q,
        "initial_state_value_prediction": (probabilities * q).sum(axis=1)[:: testbed.EPOCHS],
        "gamma": DISCOUNT,
    }
    sequential = {
        "IS": discrete.TrajectoryWiseImportanceSampling,
        "WIS": discrete.SelfNormalizedTIS,
        "PDIS": discrete.PerDecisionImportanceSampling,
        "SN-PDIS": discrete.SelfNormalizedPDIS,
        "DM": discrete.DirectMethod,
        "DR": discrete.DoublyRobust,
        "SN-DR": discrete.SelfNormalizedDR,
    }
    found = {f"SCOPE-RL: {name}": float(kind().estimate_policy_value(**log)) for name, kind in sequential.items()}
    logged, wanted = (
        np.prod(chances.reshape(-1, testbed.EPOCHS), axis=1)
        for chances in (judged.propensity, probabilities[np.arange(len(judged)), judged.action])
    )
    whole = {
        "reward": judged.reward.reshape(-1, testbed.EPOCHS).sum(axis=1),
        "action": np.zeros(len(logged), dtype=np.int64),
        "pscore": logged,
        "action_dist": np.column_stack((wanted, 1 - wanted))[:, :, None],
        "position": np.zeros(len(logged), dtype=np.int64),
    }
    found["OBP: IPW of trajectories"] = float(InverseProbabilityWeighting().estimate_policy_value(**whole))
    found["OBP: SNIPW of trajectories"] = float(
        SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**whole)
    )
    return found


SAME = (
    ("IS", "SCOPE-RL: IS"), ("WIS", "SCOPE-RL: WIS"), ("PDIS", "SCOPE-RL: PDIS"), ("SN-PDIS", "SCOPE-RL: SN-PDIS"),
    ("IS", "OBP: IPW of trajectories"), ("WIS", "OBP: SNIPW of trajectories"),
)  # fmt: skip
"""Estimators without a model: one formula, two libraries."""


def root_mean_square(records: Sequence[Record], policy: str, estimator: str) -> float:
    return float(np.sqrt(np.mean([record["error"][policy][estimator] ** 2 for record in records])))


def told(records: Sequence[Record]) -> list[str]:
    """A table: bias and root mean square error of every estimator, for both policies."""
    columns = ["estimator"] + [f"{policy}: {figure}" for policy in POLICIES for figure in ("bias", "error")]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for estimator in records[0]["error"][next(iter(POLICIES))]:
        cells = [estimator]
        for policy in POLICIES:
            bias = np.mean([record["error"][policy][estimator] for record in records])
            cells += [f"{bias:+.3f}", f"{root_mean_square(records, policy, estimator):.3f}"]
        lines.append(f"| {' | '.join(cells)} |")
    ours, theirs = (np.median([r["seconds"][p][side] for r in records for p in POLICIES]) for side in (0, 1))
    return [*lines, f"CPU seconds of an evaluation, model included: {ours:.1f} ours, {theirs:.1f} theirs"]


def surely_better(records: Sequence[Record]) -> list[str]:
    """Peers' estimates that err less than the deciding one, in the square: Student's t over logs, p < .001."""
    enough = student.ppf(0.999, len(records) - 1)
    found = []
    for policy in POLICIES:
        errors = [record["error"][policy] for record in records]
        for name in (name for name in errors[0] if not name.startswith(OURS)):
            less = np.array([error[DECIDES] ** 2 - error[name] ** 2 for error in errors])
            if less.mean() > enough * less.std(ddof=1) / np.sqrt(len(less)):
                found.append(f"{name} for {policy}")
    return found


def targets_of(records: Sequence[Record]) -> list[Target]:
    """No peer's estimate is surely better than what the gate decides by; formulae without a model agree."""
    apart = max(
        abs(record["error"][policy][f"{OURS}: {mine}"] - record["error"][policy][theirs])
        / testbed.policy_value(POLICIES[policy])
        for record in records
        for policy in POLICIES
        for mine, theirs in SAME
    )
    return [
        Target("peers_estimates_surely_better_than_the_deciding", len(surely_better(records)), 0, at_most=True),
        Target("peers_relative_difference_of_same_formulae", apart, 1e-9, at_most=True),
    ]
