"""What is watched is read page by page, so that nothing starves; and what shadows came to is forgotten after a while."""

from pathlib import Path

from alembic import op

revision = "0029"
down_revision = "0027"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    op.get_bind().connection.dbapi_connection.run_async(lambda driver: driver.execute(script))
