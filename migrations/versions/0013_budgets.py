"""Budgets: caps, prices of an organization's own, what was spent and what is reserved."""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    op.get_bind().connection.dbapi_connection.run_async(lambda driver: driver.execute(script))
