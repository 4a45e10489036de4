"""A season through Postgres and the product's own steps, beside the fast path: both publish the same lists.

    python -m bench.season_postgres [--weeks 26]

The CRM holds what the season's customers did, week by week: contacts, events, consents withdrawn. (While both sides
agree it makes no difference whose list the contacts follow: they follow the fast path's.) Every week is pulled, merged
and cut into transitions; a policy is learned, held before the gate, and approved if the gate says so; everybody due is
scored, and the list is published. The fast path plays the same week from its arrays. Only the date is simulated; Great
Expectations is left out, the data being known to be good, and so is the look at outcomes. The gate's thresholds are
such that 2,000 customers can pass it.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import sqlalchemy as sa
import typer
from sqlalchemy.engine import Engine

from bench.installation import installation
from bench.season_play import Season, begin
from bench.season_setting import WEEKS, Setting, date_of
from bench.season_world import Decisions, Life
from bench.targets import Target, conclude
from nba_tasks import database, history, ledger, publish, pull, review, score, train, transitions, trial
from nba_tasks.programme import Programme
from nba_tasks.settings import settings
from nba_tasks.simulators.channels_world import ACTIONS, EVENTS, INTERVAL
from nba_tasks.simulators.crm import create_contract, write_history
from nba_tasks.simulators.market import CHANNELS
from nba_tasks.simulators.sales_channels import Simulation
from nba_tasks.simulators.sales_channels_history import FEATURE_COLUMNS, to_history

LENIENT = {"horizon": 2, "alpha": 0.2, "min_effective_size": 100, "max_weight_share": 0.05, "harm_min_events": 0,
           "harm_relative": 2.0, "harm_absolute": 0.01, "min_power": 0.01, "select_headroom": 1}  # fmt: skip
SETTING = Setting("both ways", customers=2_000, trees=5, stagger=False, gate=tuple(LENIENT.items()))
NUMBER = 1
"""Of a season whose first two gates promote."""


@dataclass(frozen=True)
class Compared:
    """One week's list from both sides.

    Attributes
    ----------
    verdicts : (str, str)
        Of the week's gate, in Postgres and on the fast path.
    decisions : int
        Customers whom either side decided for.
    differ : int
        Customers who got another action, in the decisions or on the campaign list, or whom one side left out.
    apart : float
        The largest difference between the probabilities of a drawn action.
    """

    week: int
    verdicts: tuple[str, str]
    decisions: int
    differ: int
    apart: float

    @property
    def same(self) -> bool:
        """Whether both sides decided alike, for everybody and about the candidate."""
        return self.differ == 0 and self.apart < 1e-9 and self.verdicts[0] == self.verdicts[1]


def play(crm: Engine, warehouse: Engine, setting: Setting, number: int, weeks: int) -> Iterator[Compared]:
    """Play a season's first weeks both ways, in an empty CRM and warehouse that the settings name."""
    season, first = begin(setting, number)
    programme, ours = season.programme, season.ours
    create_contract(crm, FEATURE_COLUMNS)
    with crm.begin() as connection:
        publish.ensure_tables(connection, programme)
    write_history(crm, to_history(played(ours, date_of(programme, first))))
    for week in range(weeks):
        epoch = first + week
        as_of = date_of(programme, epoch)
        verdict = night(crm, warehouse, programme, as_of)
        season.train(week)
        due = ours.due(epoch)
        probability = season.chosen("ours", due)
        made = ours.answer(due, probability, season.drawn_by(epoch))
        # A gate that was not opened is no event of a season.
        mine = next((event["verdict"] for event in season.events if event["week"] == week), "DEFER")
        yield compared(week, (verdict, mine), mine_of(season, made), published(crm, as_of))
        write_week(crm, ours, date_of(programme, epoch + 1))


def night(crm: Engine, warehouse: Engine, programme: Programme, as_of: dt.date) -> str:
    """From pull to list, by the functions that the DAGs' tasks call; returns the gate's verdict."""
    batch_id = pull.start(warehouse, programme, as_of)
    pull.pull(crm, warehouse, programme, batch_id)
    with warehouse.begin() as connection:
        connection.execute(sa.text("update nba.batches set validated_at = now() where batch_id = :b"), {"b": batch_id})
    history.merge(warehouse, programme, batch_id)
    for shard in transitions.prepare(warehouse, programme, as_of):
        transitions.build_shard(warehouse, programme, as_of, shard)
    gate_id = trial.hold(programme, as_of, train.learn(programme, as_of))
    with warehouse.connect() as connection:
        verdict = str(ledger.gate(connection, programme, gate_id)["verdict"])
    if verdict == "PROMOTE":
        review.decide(warehouse, programme, gate_id, approve=True, decided_by="season")
    version = score.version_to_serve(programme)
    assert version is not None, "the demo's programme serves version 0"
    serve = score.serving(programme, version)
    for shard in range(programme.shards):
        score.score_shard(warehouse, programme, as_of, shard, serve)
    publish.publish(crm, warehouse, programme, as_of, serve, f"season {as_of}", today=as_of)
    return verdict


def published(crm: Engine, as_of: dt.date) -> pd.DataFrame:
    """The night's decisions in the CRM: `customer`, `action`, its `probability`, and what is to be `sent`."""
    query = """
        select d.customer_id::bigint as customer, d.action_id, l.action_id as sent,
            d.probabilities[array_position(d.eligible_actions, d.action_id)] as probability
        from decisions as d
        left join campaign_list as l using (decision_id)
        where d.decision_id like :night
        order by 1
    """
    with crm.connect() as connection:
        rows = connection.execute(sa.text(query), {"night": f"%/{as_of}/%"}).mappings().all()
    found = pd.DataFrame(rows)
    number = {action: index for index, action in enumerate(ACTIONS)}
    # Who is on no campaign list gets no contact.
    return found.assign(action=found["action_id"].map(number), sent=found["sent"].map(number).fillna(0).astype(int))


def mine_of(season: Season, made: Decisions) -> pd.DataFrame:
    """A week's decisions of the fast path, as `published` gives those in the CRM."""
    customer = season.ours.grid.customer[made.customer]
    return pd.DataFrame({"customer": customer, "action": made.action, "probability": made.propensity})


def compared(week: int, verdicts: tuple[str, str], mine: pd.DataFrame, listed: pd.DataFrame) -> Compared:
    """A week's decisions from both sides."""
    both = mine.merge(listed, on="customer", how="outer", suffixes=("", "_listed"))
    return Compared(
        week=week,
        verdicts=verdicts,
        decisions=len(both),
        differ=int(((both["action"] != both["action_listed"]) | (both["action"] != both["sent"])).sum()),
        apart=float((both["probability"] - both["probability_listed"]).abs().max()),
    )


def played(life: Life, as_of: dt.date) -> Simulation:
    """A life's log as the simulator keeps one: a column for each epoch, and one for that which begins on `as_of`."""
    grid = replace(life.grid, as_of=as_of)
    n, k = len(grid.customer), len(grid.epochs)
    first = grid.epochs.start
    found = Simulation(
        market=life.market,
        seed=life.seed,
        grid=grid,
        start=life.start,
        active=np.zeros((n, k), dtype=bool),
        state=np.zeros((n, k, 0), dtype=np.float32),
        eligible=np.zeros((n, k, len(ACTIONS)), dtype=bool),
        probabilities=np.zeros((n, k, len(ACTIONS))),
        action=np.zeros((n, k), dtype=np.int8),
        occurred=np.zeros((n, k, len(EVENTS)), dtype=bool),
        moment=np.zeros((n, k, len(EVENTS)), dtype=np.int32),
        value=np.zeros((n, k)),
        withdrawn=np.zeros((n, k), dtype=bool),
    )
    assert life.answers is not None, "a branch keeps none"
    for made, answers in zip(life.log, life.answers, strict=True):
        rows, j, week = made.customer, int(made.epoch[0]) - first, answers.week
        found.active[rows, j] = True
        found.eligible[rows, j], found.probabilities[rows, j] = made.eligible, answers.probability
        found.action[rows, j], found.value[rows, j] = made.action, week.value
        found.occurred[rows, j], found.moment[rows, j] = week.occurred, week.moment
        found.withdrawn[rows, j] = week.withdrawn
    return found


def write_week(crm: Engine, life: Life, as_of: dt.date) -> None:
    """Add what happened in the week before `as_of`: the decisions are in the CRM already, the list's own."""
    everything = to_history(played(life, as_of))
    epoch = int(life.log[-1].epoch[0])
    since = everything.decisions.loc[everything.decisions["decision_id"] % 10_000 == epoch, "decided_at"].min()
    nothing = pd.DataFrame()
    contacts = everything.contacts[everything.contacts["contact_id"] % 10_000 == epoch]
    with crm.connect() as connection:
        query = sa.text("select customer_id::bigint, decision_id from campaign_list where list_date = :on")
        listed = {row[0]: row[1] for row in connection.execute(query, {"on": as_of - dt.timedelta(days=INTERVAL)})}
    contacts = contacts.assign(decision_id=contacts["customer_id"].map(listed))
    events = everything.events[everything.events["event_id"] // 10 % 10_000 == epoch]
    changes = everything.customer_changes[everything.customer_changes["changed_at"] >= since]
    write_history(
        crm,
        replace(
            everything,
            customers=nothing,
            contacts=contacts,
            events=events,
            actions=nothing,
            customer_changes=changes,
            action_changes=nothing,
            decisions=nothing,
        ),
    )
    with crm.begin() as connection:
        for channel in CHANNELS:
            column = database.quote_identifier(f"consent_{channel}")
            gone = changes.loc[changes["attribute"] == f"consent_{channel}", "customer_id"]
            connection.execute(
                sa.text(f"update customers set {column} = false where customer_id = any (:gone)"),
                {"gone": [str(customer) for customer in gone]},
            )


def main(
    weeks: Annotated[int, typer.Option(min=1, help="of the season")] = WEEKS,
) -> None:
    """Play it, a line a week; exits 1 where the lists differ."""
    found = []
    with tempfile.TemporaryDirectory() as folder, installation(Path(folder)):
        crm, warehouse = database.engine(settings().url("NBA_CRM_URL")), database.warehouse()
        database.migrate(warehouse)
        for week in play(crm, warehouse, SETTING, NUMBER, weeks):
            found.append(week)
            same = "the same" if week.same else f"{week.differ} differ"
            print(f"week {week.week}: gate {week.verdicts[0]}, {week.decisions:,} decisions, {same}", flush=True)
        crm.dispose()
        warehouse.dispose()
    conclude([Target("season_weeks_whose_lists_differ", sum(not week.same for week in found), 0, at_most=True)])


if __name__ == "__main__":
    typer.run(main)
