"""Rows for a regressor."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nba_tasks.learners.encoding import each_action, encode


@given(n=st.integers(0, 5), d=st.integers(1, 4), actions=st.integers(1, 4), f=st.integers(1, 3))
def test_every_row_is_its_state_beside_its_actions_features(n: int, d: int, actions: int, f: int) -> None:
    rng = np.random.default_rng([n, d, actions, f])
    state, features = rng.normal(size=(n, d)), rng.normal(size=(actions, f)).astype(np.float32)
    taken = rng.integers(0, actions, n)
    rows = encode(state, features, taken)
    assert rows.dtype == np.float32
    for i in range(n):
        np.testing.assert_array_equal(rows[i], np.concatenate([state[i], features[taken[i]]]).astype(np.float32))
    for action, all_rows in enumerate(each_action(state, features)):
        np.testing.assert_array_equal(all_rows[taken == action], rows[taken == action])
