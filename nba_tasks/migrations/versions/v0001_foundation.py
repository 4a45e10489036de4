"""Batches, staging, history, quarantine, the ledger of gates, nightly scores."""

from alembic import op

from nba_tasks.database import statement

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0001_foundation").replace("%", "%%"))
