"""The steps of a roll-out, and the arm that each customer was scored for."""

from alembic import op

from nba_tasks.database import statement

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0012_rollouts").replace("%", "%%"))
