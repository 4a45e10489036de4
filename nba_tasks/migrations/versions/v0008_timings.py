"""How long each step took; and two references that cost more than they protect."""

from alembic import op

from nba_tasks.database import statement

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0008_timings").replace("%", "%%"))
