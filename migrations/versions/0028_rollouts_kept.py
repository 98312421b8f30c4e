"""What is watched is read page by page, so that nothing starves; what shadows came to is forgotten in time."""

from pathlib import Path

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    op.get_bind().connection.dbapi_connection.run_async(lambda driver: driver.execute(script))
