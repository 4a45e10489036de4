"""Which review asks about a gate, and an index for a customer's trace."""

from alembic import op

from nba_tasks.database import statement

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0004_pages").replace("%", "%%"))
