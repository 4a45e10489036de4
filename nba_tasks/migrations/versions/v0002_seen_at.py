"""When a pull first saw a version of a customer or an action, to the moment."""

from alembic import op

from nba_tasks.database import statement

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0002_seen_at").replace("%", "%%"))
