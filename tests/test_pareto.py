"""Other weights choose otherwise, and what was logged is the yardstick."""

from __future__ import annotations

import numpy as np
import pytest

from bench.study_loop import catalogue_of
from nba_tasks import pareto
from nba_tasks.dataset import Transitions
from nba_tasks.loading import Loaded
from nba_tasks.simulators import sales_channels as market
from nba_tasks.windows import cut_windows
from tests.loop import Installation, sales_channels

LEARNING = {"discount": 0.95, "trees": 6, "min_samples_leaf": 20, "max_sweeps": 20, "tolerance": 0.05, "refits": 1}


def logged(customers: int, seed: int) -> Transitions:
    return market.to_transitions(market.simulate(customers, seed))


def loaded(data: Transitions) -> Loaded:
    return Loaded(data, np.full(len(data), data.epoch[data.open].max() - 1))


@pytest.fixture(scope="module")
def found() -> list[pareto.Weighed]:
    programme = sales_channels(learning=LEARNING, gate={"horizon": 2})
    catalogue = catalogue_of(programme, market.catalogue(), market.AS_OF)
    judged = loaded(logged(1_500, 2))
    return list(pareto.sweep(programme, catalogue, logged(1_500, 1), judged, "open", (-3.0, 0.0, 3.0)))


def test_more_is_done_for_what_weighs_more(found: list[pareto.Weighed]) -> None:
    _, avoided, ignored, wanted = found
    email = 1
    assert avoided.shares[email] < ignored.shares[email] < wanted.shares[email]
    assert avoided.outcomes["open"].value < ignored.outcomes["open"].value < wanted.outcomes["open"].value
    # 3 standard errors of a paired difference are less than this: a false alarm in a thousand at most.
    assert ignored.value.value > max(avoided.value.value, wanted.value.value) - 3 * ignored.value.standard_error
    for one in found:
        assert np.isclose(one.shares.sum(), 1)


def test_the_log_is_shown_as_it_was(found: list[pareto.Weighed]) -> None:
    data = logged(1_500, 2)
    windows = cut_windows(data, 2, loaded(data).last_epoch)
    rows = windows.rows[windows.alive]
    opened = data.outcomes[:, data.outcome_names.index("open")]
    assert np.isclose(found[0].outcomes["open"].value, opened[rows].sum() / len(windows))
    assert np.allclose(found[0].shares, np.bincount(data.action[rows], minlength=data.n_actions) / len(rows))


def test_weights_are_multiples_of_todays_or_asked_for() -> None:
    programme = sales_channels()
    assert [f"{weight:g}" for weight in pareto.weights_of(programme, "complaint", ())] == ["0", "-1", "-2", "-4", "-8"]
    assert pareto.weights_of(programme, "open", (1.0, 2.0)) == (1.0, 2.0)
    with pytest.raises(pareto.ParetoError, match="no event 'sale'; it has open, click"):
        pareto.weights_of(programme, "sale", ())
    with pytest.raises(pareto.ParetoError, match="open weighs nothing today"):
        pareto.weights_of(programme, "open", ())


def test_a_line_for_each_weight(trained: Installation) -> None:
    said: list[str] = []
    pareto.look(trained.programme, trained.as_of, "complaint", (-2.0, -20.0), seed=0, mix=0.5, say=said.append)
    heading, *lines = said
    assert heading.startswith("Of 1,000 customers in 2 decisions")
    assert [line[:22].strip() for line in lines] == ["logged", "complaint -2", "complaint -20"]
    columns = len(heading.splitlines()[1].replace("value today", "value").replace("counts like", "counts").split())
    assert all(len(line[22:].replace(" ± ", "±").split()) == columns for line in lines)
