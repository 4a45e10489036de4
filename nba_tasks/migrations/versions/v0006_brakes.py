"""The kill switch, and the features that moved a choice."""

from alembic import op

from nba_tasks.database import statement

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0006_brakes").replace("%", "%%"))
