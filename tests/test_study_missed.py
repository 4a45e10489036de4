"""The study of missed gains: its arithmetic on made-up pools and records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.replicates import Record
from bench.study_missed import Drawn, found_targets, play, told
from bench.study_missed_pool import PLAYED, Pool, Size, Stepped, affinity, nearest, programme_at, window_ends
from nba_tasks.dataset import BoolArray, FloatArray
from nba_tasks.policy import Floats
from nba_tasks.simulators.sales_channels import OUTCOMES

SIZE = Size(learn=1, pool=200, select=60, gate=90, truth=1, trees=4, replicates=2)


def made_pool() -> Pool:
    """200 customers with a window of four epochs each; e-mail earns 1, nothing earns 0, and the log tosses coins."""
    rng = np.random.default_rng(0)
    n, actions = 800, 4
    action = rng.integers(0, 2, n)
    some = np.zeros((n, actions), dtype=bool)
    some[:, :2] = True
    coin = np.where(some, 0.5, 0.0)
    outcomes = np.zeros((n, len(OUTCOMES)))
    outcomes[:, -2] = action
    return Pool(
        customer=np.repeat(np.arange(200), 4),
        epoch=np.tile(np.arange(4), 200) + 8,
        action=action,
        reward=action.astype(np.float64),
        outcomes=outcomes,
        propensity=np.full(n, 0.5),
        done=np.zeros(n, dtype=bool),
        eligible=some,
        allowed=some,
        behaviour=coin,
        incumbent=coin,
        new=np.eye(actions)[np.ones(n, dtype=int)],
        values=np.zeros((5, 4, n, actions), dtype=np.float32),
        tail=np.zeros(4),
        truth=np.array([0.0, 0.05, 0.1, 0.15, 0.2]),
        truth_error=0.01,
    )


def test_a_pool_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = made_pool()
    made.save(tmp_path / "pool.npz")
    read = Pool.load(tmp_path / "pool.npz")
    np.testing.assert_array_equal(read.values, made.values)
    assert read.truth_error == made.truth_error
    assert [path.name for path in tmp_path.iterdir()] == ["pool.npz"]


def test_drawn_customers_bring_their_own_windows() -> None:
    drawn = Drawn.of(made_pool(), np.array([3, 150, 7]), programme_at(SIZE))
    assert drawn.windows.customer.tolist() == [3, 7, 150]
    assert drawn.rows.tolist() == [*range(12, 16), *range(28, 32), *range(600, 604)]
    epsilon = programme_at(SIZE).layers.epsilon
    found = drawn.candidate(0.4)
    assert found[0, 1] == pytest.approx((1 - epsilon) * 0.7 + epsilon / 2)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    mine, theirs = drawn.critics(0.4)
    assert (mine.value == 0).all()
    assert mine.value.shape == theirs.value.shape == (3, 4)


def test_a_replicate_is_repeatable_and_defers_with_few_customers(tmp_path: Path) -> None:
    made_pool().save(tmp_path / "pool.npz")
    first, again = (play(tmp_path / "pool.npz", SIZE, 3) for _ in range(2))
    assert first == again
    assert not first["promoted"]
    assert any("3,000 are asked for" in reason for reason in first["reasons"])


def test_the_weak_part_copies_the_log() -> None:
    class Learned:
        def values(self, state: FloatArray) -> FloatArray:
            return np.tile([0.0, 1.0, 2.0, 3.0], (len(state), 1))

    class Log:
        def probabilities(self, state: FloatArray, eligible: BoolArray) -> Floats:
            return np.tile([0.6, 0.2, 0.1, 0.1], (len(state), 1))

    state = np.zeros((2, 14), dtype=np.float32)
    state[:, 2] = (0.3, 0.7)
    assert affinity(state).tolist() == pytest.approx([0.3, 0.7])
    assert Stepped(Learned(), Log(), 0.5).values(state).argmax(axis=1).tolist() == [3, 0]


def test_windows_end_where_the_next_begins() -> None:
    assert window_ends(np.array([8, 9, 11, 12]), 4).tolist() == [11, 11, 11, 15]
    assert [nearest(share) for share in (0.05, 0.3, 0.5, 1.0)] == [0, 1, 2, 3]


def test_targets_count_promotions_and_what_they_truly_gain() -> None:
    truth = np.linspace(0, 0.2, len(PLAYED))
    yes: Record = {"promoted": True, "mix": 0.5, "reasons": []}
    no: Record = {"promoted": False, "mix": 0.0, "reasons": ["few"]}
    found = [yes] * 8 + [no] * 2
    share, gained = found_targets(found, truth, quick=False)
    assert (share.figure, share.holds) == (0.8, True)
    assert gained.figure == pytest.approx(0.1)
    assert not found_targets(found[1:], truth, quick=False)[0].holds
    assert not all(target.holds for target in found_targets(found[-2:], truth, quick=False))
    assert "promoted in 8 of 10 replicates: 80.0% (44.4% … 97.5%)" in told(found, made_pool())
