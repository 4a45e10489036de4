"""What moved a choice is kept with the list's reasons alone."""

from alembic import op

from nba_tasks.database import statement

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0013_moved").replace("%", "%%"))
