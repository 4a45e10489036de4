"""The DAG run behind each look at the outcomes."""

from alembic import op

from nba_tasks.database import statement

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0011_outcomes_run").replace("%", "%%"))
