"""A gate's candidate judged again with other thresholds, to see what they would have said. Nothing here can promote."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from nba_tasks import ledger, registry
from nba_tasks.database import warehouse
from nba_tasks.gate.schema import checked
from nba_tasks.policy import ServedPolicy
from nba_tasks.programme import Programme
from nba_tasks.tonight import limits_of
from nba_tasks.train import reading
from nba_tasks.trial import Held, judge_candidate, load_splits, sides_of

log = logging.getLogger("nba_tasks")

THRESHOLDS = (
    "horizon", "alpha", "margin", "min_effective_size", "min_effective_share", "max_weight_share", "harm_relative",
    "harm_absolute", "harm_min_events",
)  # fmt: skip
"""What can be asked differently: keys of the programme file's section `gate`."""


class WhatIfError(ValueError):
    """A question that cannot be answered; the message says why and what to do."""


def ask(
    programme: Programme,
    gate_id: int | None,
    thresholds: Mapping[str, float],
    asked_by: str,
    dag_run_id: str | None = None,
) -> int:
    """Judge a gate's candidate with other thresholds and keep what comes out, apart from the ledger of gates.

    Parameters
    ----------
    gate_id : int or None
        None: the programme's newest gate.
    thresholds : mapping of str to float
        Keys of `THRESHOLDS`; what is not given stays as the programme file has it.

    Returns
    -------
    int
        Its number in `nba.what_ifs`.

    Raises
    ------
    WhatIfError
        No threshold is changed, the history has gone on since the gate, or the candidate is not to be had.
    TransitionsError
        The transitions were rebuilt for a later date.
    """
    asked = with_thresholds(programme, thresholds)
    with warehouse().connect() as connection:
        number = gate_id or ledger.newest(connection, programme)
        if number is None:
            raise WhatIfError(f"{programme.programme} has held no gate yet")
        gate = ledger.gate(connection, programme, number)
    held = _judged_again(asked, gate)
    links = {"mlflow_run_id": gate["mlflow_run_id"], "dag_run_id": dag_run_id}
    content = checked(held.to_dict(gate["candidate_version"], gate["incumbent_version"]) | {"links": links})
    row = {
        "gate_id": number,
        "thresholds": json.dumps(dict(thresholds)),
        "verdict": content["verdict"],
        "report": json.dumps(content),
        "asked_by": asked_by,
        "asked_at": dt.datetime.now(dt.UTC),
        "dag_run_id": dag_run_id,
    }
    kept = sa.text(
        """
        insert into nba.what_ifs (gate_id, thresholds, verdict, report, asked_by, asked_at, dag_run_id)
        values
            (:gate_id, cast(:thresholds as jsonb), :verdict, cast(:report as jsonb), :asked_by, :asked_at, :dag_run_id)
        returning what_if_id
        """
    )
    with warehouse().begin() as connection:
        what_if_id = int(connection.execute(kept, row).scalar_one())
    log.info("what if %s at gate %s: %s\n%s", dict(thresholds), number, content["verdict"], "\n".join(held.reasons))
    return what_if_id


def with_thresholds(programme: Programme, thresholds: Mapping[str, float]) -> Programme:
    """The programme as it would be with other thresholds.

    Raises
    ------
    WhatIfError
        None is given, one is unknown, or one is out of range.
    """
    if not thresholds or (unknown := sorted(set(thresholds) - set(THRESHOLDS))):
        known = ", ".join(THRESHOLDS)
        raise WhatIfError(
            f"{', '.join(unknown)} cannot be changed" if thresholds else f"change at least one of {known}"
        )
    gate = programme.gate.model_dump() | dict(thresholds)
    try:
        return Programme.model_validate(programme.model_dump() | {"gate": gate})
    except ValueError as error:
        raise WhatIfError(str(error)) from None


def _judged_again(programme: Programme, gate: Mapping[str, Any]) -> Held:
    """The gate once more, at the mix that its candidate has."""
    stored = registry.load(programme, gate["candidate_version"])
    policy = stored.policy
    if not isinstance(policy, ServedPolicy):
        raise WhatIfError(f"version {gate['candidate_version']} is business as usual, which no gate judges")
    with reading(programme, gate["as_of"]) as (connection, source):
        if source.batch.batch_id != gate["batch_id"]:
            raise WhatIfError(f"the history of gate {gate['gate_id']} was rebuilt since: ask about a newer gate")
        loaded = load_splits(connection, source, stored.newcomers(source.shape))
    stored.require_features(programme.feature_names)
    sides = sides_of(programme, loaded, policy, limits_of(source.shape))
    layers = programme.layers.model_dump() | {"mix": policy.mix}
    at_its_mix = Programme.model_validate(programme.model_dump() | {"layers": layers})
    return judge_candidate(at_its_mix, source.catalogue, policy, sides, gate["attempt"] or 1)
