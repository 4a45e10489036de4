"""Indexes that find what came or went since an earlier batch."""

from alembic import op

from nba_tasks.database import statement

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0005_what_came_when").replace("%", "%%"))
