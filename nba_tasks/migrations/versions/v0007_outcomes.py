"""Outcomes of the published lists, and proposals to take a policy out of use."""

from alembic import op

from nba_tasks.database import statement

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0007_outcomes").replace("%", "%%"))
