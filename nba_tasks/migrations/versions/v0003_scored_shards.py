"""Scores by policy version, and which shards of a night were scored to their end."""

from alembic import op

from nba_tasks.database import statement

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0003_scored_shards").replace("%", "%%"))
