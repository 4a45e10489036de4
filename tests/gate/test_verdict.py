from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nba_tasks.bounds import spent_alpha
from nba_tasks.estimators import Critic
from nba_tasks.gate import SCHEMA, GateError, Placebo, Sample, Verdict, Yardstick, judge
from nba_tasks.windows import cut_windows
from tests.gate.cases import FUTILE, SMALL, Floats, make_sample
from tests.tiny_mdp import BETTER, FATIGUE, LOGGING, WORSE, TinyMdp, by_row

HALF_BETTER = 0.5 * LOGGING + 0.5 * BETTER
HALF_WORSE = 0.5 * LOGGING + 0.5 * WORSE


def status(verdict: Verdict, rule: str) -> str:
    return next(result.status for result in verdict.rules if result.rule == rule)


@pytest.mark.parametrize("with_critic", [False, True])
def test_a_gain_is_promoted_and_a_loss_rejected(with_critic: bool) -> None:
    sample, log = make_sample()
    for policy, expected in ((HALF_BETTER, "PROMOTE"), (HALF_WORSE, "REJECT")):
        critics = None
        if with_critic:
            mine, theirs = (FATIGUE.critic(p, log, sample.windows, 0.9) for p in (policy, LOGGING))
            critics = (mine, theirs)
        verdict = judge(sample, by_row(policy, log), SMALL, critics=critics)
        assert verdict.verdict == expected
        assert verdict.deciding is not None
        assert verdict.deciding.estimator == ("DR" if with_critic else "PDIS")
        assert not verdict.needs_person
        assert bool(verdict.reasons) == (expected != "PROMOTE")


def test_intervals_hold_the_truth_of_every_estimator() -> None:
    """One window a customer, the truth by recursion; each interval is widened to 4.5 standard errors (7 in a million,
    18 figures)."""
    sample, log = make_sample(20_000, epochs=4)
    critics = tuple(FATIGUE.critic(p, log, sample.windows, 0.9) for p in (HALF_BETTER, LOGGING))
    verdict = judge(sample, by_row(HALF_BETTER, log), SMALL, critics=(critics[0], critics[1]))
    mine, theirs = (FATIGUE.value(policy, 4, 0.9) for policy in (HALF_BETTER, LOGGING))
    truth = {"candidate": mine, "incumbent": theirs, "difference": mine - theirs, "log": theirs}
    assert len(verdict.estimates) == 22
    for figure in verdict.estimates:
        if figure.estimator != "DM":
            assert abs(figure.value - truth[figure.policy]) < 4.5 * figure.standard_error, figure


def test_a_candidate_equal_to_the_incumbent_is_deferred() -> None:
    sample, log = make_sample()
    verdict = judge(sample, by_row(LOGGING, log), SMALL)
    assert verdict.verdict == "DEFER"
    assert verdict.deciding is not None
    assert (verdict.deciding.lower, verdict.deciding.upper) == (0.0, 0.0)


def test_the_report_is_json_with_a_stable_schema() -> None:
    sample, log = make_sample(300)
    plain = json.loads(json.dumps(judge(sample, by_row(BETTER, log), SMALL).to_dict(), allow_nan=False))
    assert plain["schema"] == SCHEMA == 2
    assert set(plain) == {
        "schema", "verdict", "needs_person", "rules", "judged", "deciding", "estimates", "outcomes", "mean_weights",
        "bootstrap", "robust", "sensitivity", "placebo", "reasons",
    }  # fmt: skip
    assert [rule["rule"] for rule in plain["rules"]] == [
        "evidence", "sanity", "placebo", "value", "harm:left", "tail", "agreement", "propensities",
    ]  # fmt: skip
    assert {figure["outcome"] for figure in plain["outcomes"]} == {"paid", "left"}


def test_permuting_windows_changes_nothing() -> None:
    sample, log = make_sample(400)
    order = np.random.default_rng(0).permutation(len(sample.windows))
    shuffled = Sample.of(
        log,
        sample.windows.take(order),
        behaviour=sample.behaviour,
        incumbent=sample.incumbent,
        discount=0.9,
        harms=("left",),
    )
    one, other = (judge(s, by_row(BETTER, log), SMALL, bootstrap_replicates=0) for s in (sample, shuffled))
    for before, after in zip(one.estimates, other.estimates, strict=True):
        assert before.value == pytest.approx(after.value, rel=1e-9)
        assert before.lower == pytest.approx(after.lower, rel=1e-9)
    assert [r.status for r in one.rules] == [r.status for r in other.rules]


def test_later_candidates_of_a_family_get_less_alpha() -> None:
    sample, log = make_sample(400)
    first, third = (judge(sample, by_row(BETTER, log), SMALL, k=k, bootstrap_replicates=0).deciding for k in (1, 3))
    assert first is not None
    assert third is not None
    assert third.alpha == spent_alpha(0.05, 3)
    assert third.lower < first.lower


def test_a_tail_that_reverses_the_sign_defers() -> None:
    sample, log = make_sample()
    verdict = judge(sample, by_row(HALF_BETTER, log), SMALL, tail_gain=-10.0)
    assert (verdict.verdict, status(verdict, "tail")) == ("DEFER", "defer")


def test_estimated_propensities_need_a_placebo_and_a_person() -> None:
    sample, log = make_sample(logged=False)
    candidate = by_row(HALF_BETTER, log)
    assert judge(sample, candidate, SMALL).verdict == "DEFER"
    verdict = judge(sample, candidate, SMALL, placebo=Placebo(0.5, 0.0), yardstick=Yardstick("wealth", 1.5))
    assert verdict.verdict == "PROMOTE"
    assert verdict.needs_person
    assert verdict.sensitivity is not None
    assert verdict.sensitivity.gamma_bound > 1


def test_acting_without_support_is_rejected() -> None:
    never = np.array([[0.6, 0.4], [1.0, 0.0]])
    sample, log = make_sample(behaviour=never)
    verdict = judge(sample, by_row(np.array([[0.6, 0.4], [0.5, 0.5]]), log), SMALL)
    assert (verdict.verdict, status(verdict, "sanity")) == ("REJECT", "reject")


@pytest.mark.parametrize("bad", [0.0, math.nan, 1.2, -1.0])
def test_unusable_propensities_are_rejected_without_figures(bad: float) -> None:
    sample, log = make_sample(50)
    propensity = sample.propensity.copy()
    propensity[sample.rows[3]] = bad
    verdict = judge(replace(sample, propensity=propensity), by_row(BETTER, log), SMALL)
    assert verdict.verdict == "REJECT"
    assert verdict.deciding is None
    assert "1 of" in verdict.reasons[0]
    json.dumps(verdict.to_dict(), allow_nan=False)


def one_policy(n_actions: int) -> tuple[TinyMdp, Floats]:
    """A log that only ever took action 0."""
    ends = np.full((1, n_actions), 0.05)
    mdp = TinyMdp(np.ones(1), np.ones((1, n_actions, 1)), np.full((1, n_actions), 0.3), ends)
    return mdp, np.eye(1, n_actions)


@pytest.mark.parametrize(("n_actions", "expected"), [(1, "DEFER"), (2, "REJECT")])
def test_a_log_with_a_single_action(n_actions: int, expected: str) -> None:
    """With one action in the catalogue nothing can differ; with two, the log cannot speak about the other."""
    mdp, always = one_policy(n_actions)
    log = mdp.simulate(always, 500, 4, 0)
    rows = by_row(always, log)
    sample = Sample.of(log, cut_windows(log, 2), behaviour=rows, incumbent=rows, discount=0.9)
    candidate = np.full((len(log), n_actions), 1 / n_actions)
    assert judge(sample, candidate, SMALL).verdict == expected


def test_one_customer_is_deferred_with_unbounded_intervals() -> None:
    sample, log = make_sample(1, epochs=1, horizon=1)
    verdict = judge(sample, by_row(BETTER, log), SMALL)
    assert verdict.verdict == "DEFER"
    assert verdict.to_dict()["deciding"]["lower"] is None


def test_all_customers_leaving_at_once_is_judged() -> None:
    sample, log = make_sample(500, mdp=replace(FATIGUE, ends=np.ones((2, 2))))
    assert sample.windows.alive.sum() == len(sample.windows)
    assert judge(sample, by_row(HALF_BETTER, log), SMALL).verdict in {"PROMOTE", "DEFER"}


def test_horizon_one_is_judged() -> None:
    sample, log = make_sample(1_000, horizon=1, harms=())
    assert judge(sample, by_row(BETTER, log), SMALL).verdict == "PROMOTE"


def test_a_constant_reward_promotes_nobody() -> None:
    sample, log = make_sample(mdp=replace(FATIGUE, pays=np.ones((2, 2)), ends=np.zeros((2, 2))))
    verdict = judge(sample, by_row(BETTER, log), SMALL)
    assert verdict.verdict != "PROMOTE"


@pytest.mark.parametrize(
    ("table", "message"),
    [([[0.5, 0.6]] * 2, "the candidate gives probabilities that do not sum"), ([[1.0]] * 2, "shape")],
)
def test_a_candidate_that_is_no_policy_is_an_error(table: list[list[float]], message: str) -> None:
    sample, log = make_sample(20)
    with pytest.raises(GateError, match=message):
        judge(sample, by_row(np.array(table), log), SMALL)


def test_faulty_critics_and_looks_are_errors() -> None:
    sample, log = make_sample(20)
    candidate, shape = by_row(BETTER, log), sample.windows.rows.shape
    good, broken = Critic(np.zeros(shape), np.zeros(shape)), Critic(np.full(shape, np.nan), np.zeros(shape))
    short = Critic(np.zeros((1, 1)), np.zeros((1, 1)))
    for critics, message in (((good, broken), "not finite"), ((short, good), "shape of the windows")):
        with pytest.raises(GateError, match=message):
            judge(sample, candidate, SMALL, critics=critics)
    with pytest.raises(GateError, match="n_star"):
        judge(sample, candidate, SMALL, bound="sequence")
    with pytest.raises(GateError, match="one window per customer"):
        judge(sample, candidate, SMALL, bound="sequence", n_star=100)


def test_repeated_looks_take_one_window_each_and_are_wider() -> None:
    sample, log = make_sample(2_000)
    order = np.random.default_rng(1).permutation(len(sample.windows))
    single = Sample.of(
        log, sample.windows.one_each(order), behaviour=sample.behaviour, incumbent=sample.incumbent, discount=0.9
    )
    candidate = by_row(HALF_BETTER, log)
    once, always = judge(single, candidate, SMALL), judge(single, candidate, SMALL, bound="sequence", n_star=2_000)
    assert once.deciding is not None
    assert always.deciding is not None
    assert always.deciding.lower < once.deciding.lower
    assert always.deciding.lower == once.deciding.sequence[0]


def test_worthless_candidates_are_seldom_promoted_and_real_gains_often() -> None:
    """600 logs of 700 customers. Contacts do nothing: promotions of a worthless candidate stay below α by
    Clopper–Pearson at 95%, though rule 1 passes in at least 80% (or it would prove nothing), and the value rule alone
    passes at most 35 times (the 99.99% quantile at a nominal 3.04%). Where contacts pay, at least half of 60 gains are
    promoted. With the seeds fixed nothing here is left to chance; before they were, all held with a wide margin.
    """
    promoted = passed = informative = 0
    for seed in range(600):
        sample, log = make_sample(700, seed, mdp=FUTILE, harms=())
        verdict = judge(sample, by_row(HALF_BETTER, log), SMALL, bootstrap_replicates=0)
        promoted += verdict.verdict == "PROMOTE"
        passed += status(verdict, "value") == "pass"
        informative += status(verdict, "evidence") == "pass"
    assert stats.binomtest(promoted, 600).proportion_ci(0.90).high <= SMALL.alpha
    assert passed <= stats.binom.ppf(0.9999, 600, spent_alpha(0.05, 1))
    assert informative >= 480
    gains = 0
    for seed in range(60):
        sample, log = make_sample(700, seed)
        gains += judge(sample, by_row(HALF_BETTER, log), SMALL, bootstrap_replicates=0).verdict == "PROMOTE"
    assert gains >= 30
