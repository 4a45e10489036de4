"""Tombstones of customers who asked to be forgotten."""

from alembic import op

from nba_tasks.database import statement

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0009_erased").replace("%", "%%"))
