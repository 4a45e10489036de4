"""Machine reports for tests, put together as the gate step does."""

from __future__ import annotations

import json
from typing import Any

from nba_tasks.gate import choose_mix, judge
from nba_tasks.gate.exhibits import Exhibits
from nba_tasks.gate.plain import plain
from tests.gate.cases import SMALL, make_sample
from tests.gate.exhibits.test_collection import HALF_BETTER, exhibits
from tests.tiny_mdp import BETTER, LOGGING, Floats, by_row


def make_report(n: int, shown: Exhibits | None = None, candidate: Floats = HALF_BETTER) -> dict[str, Any]:
    """Of `n` customers; `shown` replaces what is shown beside the verdict."""
    sample, log = make_sample(n)
    verdict = judge(sample, by_row(candidate, log), SMALL, bootstrap_replicates=20, reward_range=(-0.5, 1.5))
    steps = {mix: by_row((1 - mix) * LOGGING + mix * BETTER, log) for mix in (0.2, 0.5, 1.0)}
    choice = choose_mix(sample, steps.__getitem__, SMALL, gate_customers=n, mixes=tuple(steps))
    content = {
        **verdict.to_dict(),
        **plain(shown or exhibits(sample, log)),
        "candidate_version": 2,
        "incumbent_version": 1,
        "mix": 0.5,
        "opened": True,
        "lost_customer_value": 5.0,
        "choice": plain(choice),
        "links": {"mlflow_run_id": "run", "dag_run_id": None},
    }
    found: dict[str, Any] = json.loads(json.dumps(content, allow_nan=False))
    return found
