"""What confidence was made of, who asked for a run, and which evals were lost; what is old is forgotten."""

from pathlib import Path

from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    op.get_bind().connection.dbapi_connection.run_async(lambda driver: driver.execute(script))
