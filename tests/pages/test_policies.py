"""The policies' pages of a running site: a roll-out, and who takes its next step."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from nba_tasks import registry, rollout
from nba_tasks.programme import Rollout
from tests.pages.conftest import Site

PATH = "/nba/policies/sales_channels/rollout"


@pytest.fixture
def rolling(site: Site) -> Iterator[int]:
    """The newest gate's candidate is in use for a tenth, and yesterday's list was its own; yields its version."""
    made = site.made
    version, usual = made.databases.rows(
        "select candidate_version, incumbent_version from nba.gates order by gate_id limit 1"
    )[0]
    programme = made.programme.model_copy(update={"rollout": Rollout(steps=(10, 100))})
    rollout.begin(made.warehouse, programme, version, usual, "ann")
    registry.name(programme, "champion", version)
    yesterday = dt.date.today() - dt.timedelta(days=1)
    with made.crm.begin() as crm:
        crm.exec_driver_sql(
            "insert into publications (programme, list_date, policy_version, run_id, decisions, to_send, valid_until)"
            f" values ('sales_channels', '{yesterday}', {version}, 'by hand', 0, 0, now())"
        )
    yield version
    registry.client().delete_registered_model_alias("sales_channels", "champion")
    with made.warehouse.begin() as warehouse:
        warehouse.exec_driver_sql("delete from nba.rollouts")
    with made.crm.begin() as crm:
        crm.exec_driver_sql("delete from publications where run_id = 'by hand'")


def test_a_roll_out_is_shown_and_a_person_takes_its_next_step(site: Site, rolling: int) -> None:
    with site.visit("vera") as vera:
        page = vera.get("/nba/policies/sales_channels").text
        assert "It decides for 10% of the served customers" in page
        assert "the next step" not in page, "she may not decide"
    with site.visit("uma") as uma:
        assert "How that goes, and the next step" in uma.get("/nba/policies/sales_channels").text
        page = uma.get(PATH).text
        assert f"Let version {rolling} decide for 100%?" in page
        assert "so far on 1 night" in page
        assert "no alarm" in page
        form = {"token": site.token("uma"), "share": "50", "comment": "all quiet"}
        stale = uma.post(PATH, data=form)
        assert stale.status_code == 409
        assert "at 10% now: look again" in stale.text
        assert uma.post(PATH, data=form | {"share": "10"}).status_code == 303
        page = uma.get("/nba/policies/sales_channels").text
        assert "for 100% from" in page
        assert "“all quiet”" in page
        assert uma.get(PATH).status_code == 409
