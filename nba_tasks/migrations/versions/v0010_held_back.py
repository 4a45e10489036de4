"""What each rule forbade, night by night."""

from alembic import op

from nba_tasks.database import statement

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.get_bind().exec_driver_sql(statement("warehouse/0010_held_back").replace("%", "%%"))
