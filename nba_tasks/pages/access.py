"""Who may see and do what on the pages, asked of Airflow's own auth manager, programme by programme.

| to | a person needs, in Airflow's words |
|---|---|
| see gates, lists and policies | to read the programme's promotion review DAG |
| approve, reject, go back to the champion before | to answer that DAG's required actions (as a named reviewer) |
| see customers' rows | to start runs of the programme's nightly actions DAG: who may make the list may read it |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_view
from fastapi import Depends, HTTPException, status

from nba_tasks import database

may_open_pages = requires_access_view(AccessView.PLUGINS)
"""Every route's first dependency: logged in, and allowed to see plugins at all."""


@dataclass(frozen=True)
class Visitor:
    """A logged-in person and the programmes that they may see."""

    user: BaseUser
    programmes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.user.get_name()

    def require(self, programme: str) -> str:
        """The programme, if it is one that the person may see.

        Raises
        ------
        HTTPException
            404, whether it does not exist or is kept from them: the answer gives nothing away.
        """
        if programme not in self.programmes:
            raise HTTPException(status.HTTP_404_NOT_FOUND, f"There is no programme {programme} that you may see.")
        return programme

    def decides(self, programme: str) -> bool:
        """Whether the person may approve and reject here."""
        return programme in self.programmes and _allowed(
            self.user, "PUT", f"{programme}.promotion_review", DagAccessEntity.HITL_DETAIL
        )

    def require_decides(self, programme: str) -> None:
        """Refuse, with 403, a person who may not approve and reject here."""
        self.require(programme)
        if not self.decides(programme):
            raise HTTPException(
                status.HTTP_403_FORBIDDEN,
                f"You may look at {programme}, but not decide for it: that takes the right to answer the required "
                f"actions of {programme}.promotion_review.",
            )

    def sees_customers(self, programme: str) -> bool:
        """Whether the person may see customers' rows here."""
        return programme in self.programmes and _allowed(
            self.user, "POST", f"{programme}.nightly_actions", DagAccessEntity.RUN
        )

    def require_sees_customers(self, programme: str) -> None:
        """Refuse, with 403, a person who may not see customers' rows here."""
        self.require(programme)
        if not self.sees_customers(programme):
            raise HTTPException(
                status.HTTP_403_FORBIDDEN,
                f"Customers' rows of {programme} are shown to those who may start its nightly actions.",
            )


def _allowed(user: BaseUser, method: str, dag_id: str, entity: DagAccessEntity | None = None) -> bool:
    manager: BaseAuthManager[BaseUser] = get_auth_manager()
    return manager.is_authorized_dag(
        method=method,  # type: ignore[arg-type]
        access_entity=entity,
        details=DagDetails(id=dag_id),
        user=user,
    )


def visitor(user: GetUserDep) -> Visitor:
    """The person behind a request."""
    with database.warehouse().connect() as connection:
        known = connection.scalars(sa.text(database.statement("pages/programmes"))).all()
    return Visitor(user, tuple(name for name in known if _allowed(user, "GET", f"{name}.promotion_review")))


VisitorDep = Annotated[Visitor, Depends(visitor)]
