"""Who may see and do what: on every route that the application has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.loop import AS_OF
from tests.pages.conftest import Site

PLACES = {
    "programme": "sales_channels", "list_date": AS_OF.isoformat(), "as_of": AS_OF.isoformat(), "name:path": "pages.css",
    "what_if_id": "1", "dag_id": "sales_channels.nightly_actions", "run_id": "a run", "what": "list",
}  # fmt: skip
ACTS = {"/gates/{gate_id}/answer", "/policies/{programme}/rollback", "/policies/{programme}/rollout"}


def routes() -> Iterator[tuple[str, str]]:
    """Every method and path, asked of the application itself."""
    from nba_tasks.pages.app import app

    for route in app.routes:
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            yield method, str(getattr(route, "path", "?"))


def address(path: str, gate: int) -> str:
    filled = re.sub(r"{([^}]+)}", lambda part: str((PLACES | {"gate_id": gate})[part[1]]), path)
    return f"/nba{filled}"


def test_anonymous_is_refused_everywhere(site: Site) -> None:
    asked = list(routes())
    assert len(asked) > 10
    with site.visit(None) as nobody:
        answers = {
            (method, path): nobody.request(method, address(path, site.gates()[0])).status_code for method, path in asked
        }
    assert set(answers.values()) == {401}, answers


def test_a_forged_token_is_refused(site: Site) -> None:
    with site.visit(None) as nobody:
        nobody.cookies.set("_token", "eyJhbGciOiJIUzUxMiJ9.eyJzdWIiOiJ1bWEiLCJyb2xlIjoiYWRtaW4ifQ.AAAA")
        assert nobody.get("/nba/gates").status_code in (401, 403)


def test_a_viewer_sees_but_may_not_act_nor_see_customers(site: Site) -> None:
    waiting = site.gates()[-1]
    with site.visit("vera") as vera:
        for path in ("gates", "lists", "policies/sales_channels", "in-plain-words"):
            assert vera.get(f"/nba/{path}").status_code == 200, path
        page = vera.get(f"/nba/gates/{waiting}")
        assert page.status_code == 200
        form = {"token": site.token("vera"), "answer": "Approve", "champion": "1", "share": "10"}
        for path in ACTS:
            refused = vera.post(address(path, waiting), data=form)
            assert refused.status_code == 403, path
            assert "You may look at sales_channels, but not decide" in refused.text, "it is her right that is missing"
        for what in ("rollback", "rollout"):
            assert vera.get(f"/nba/policies/sales_channels/{what}").status_code == 403
        assert vera.get("/nba/customers/sales_channels", params={"id": customer(site)}).status_code == 403
        night = vera.get(f"/nba/lists/sales_channels/{AS_OF}")
        assert night.status_code == 200
        assert customer(site) not in night.text
    with site.visit("uma") as uma:
        assert customer(site) in uma.get(f"/nba/lists/sales_channels/{AS_OF}").text


def customer(site: Site) -> str:
    """The customer whom the list shows first."""
    with site.made.crm.connect() as connection:
        found = connection.exec_driver_sql(
            "select customer_id from campaign_list order by value_over_no_action desc nulls last, customer_id limit 1"
        )
        return str(found.scalar_one())


@pytest.mark.parametrize("path", ["/nba/gates/99999", "/nba/lists/another/2026-06-03", "/nba/policies/another"])
def test_what_is_not_there_and_what_is_kept_look_alike(site: Site, path: str) -> None:
    with site.visit("uma") as uma:
        answer = uma.get(path)
    assert answer.status_code == 404
    assert "you may see" in answer.text


def test_a_form_of_another_site_or_person_is_refused(site: Site) -> None:
    path = "/nba/policies/sales_channels/rollback"
    with site.visit("uma") as uma:
        mine = {"champion": "1", "token": site.token("uma")}
        # Nothing was promoted here: her own form gets as far as that.
        assert uma.post(path, data=mine).status_code == 409
        assert uma.post(path, data=mine, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 409
        for headers, token in (
            ({"Sec-Fetch-Site": "cross-site"}, site.token("uma")),
            ({"Sec-Fetch-Site": "same-site"}, site.token("uma")),
            ({}, site.token("vera")),
            ({}, site.token("uma", secret="guessed")),
            ({}, ""),
        ):
            assert uma.post(path, data=mine | {"token": token}, headers=headers).status_code == 403, (headers, token)


def test_without_a_roll_out_there_is_no_next_step(site: Site) -> None:
    path, form = "/nba/policies/sales_channels/rollout", {"share": "10", "token": site.token("uma")}
    with site.visit("uma") as uma:
        for answer in (uma.get(path), uma.post(path, data=form)):
            assert answer.status_code == 409
            assert "no roll-out under way" in answer.text


def test_what_cannot_be_answered_says_why(site: Site) -> None:
    form = {"token": site.token("uma"), "answer": "Approve"}
    with site.visit("uma") as uma:
        for gate, why in ((site.gates()[1], "Nothing to decide"), (site.gates()[-1], "Nobody has been asked yet")):
            refused = uma.post(f"/nba/gates/{gate}/answer", data=form)
            assert refused.status_code == 409, gate
            assert why in refused.text


@pytest.mark.parametrize("name", ["../app.py", "..%2Fapp.py", "vendor", "nothing.css", "%2e%2e/templates/base.html"])
def test_only_static_files_are_served(site: Site, name: str) -> None:
    with site.visit("vera") as vera:
        assert vera.get(f"/nba/static/{name}").status_code in (404, 405)
        assert "import" not in vera.get(f"/nba/static/{name}").text


def test_the_page_beside_a_run_of_another_dag_says_so(site: Site) -> None:
    with site.visit("uma") as uma:
        page = uma.get("/nba/runs/somebodys.dag/a run")
    assert page.status_code == 200
    assert "none of the next-best-action workflow" in page.text


def test_every_page_says_what_it_may_load(site: Site) -> None:
    with site.visit("vera") as vera:
        for path in ("/nba/gates", "/nba/lists", "/nba/gates/99999", "/nba/static/pages.css"):
            policy = vera.get(path).headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
