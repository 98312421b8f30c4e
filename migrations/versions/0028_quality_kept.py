"""What confidence was made of; scores, words and evals are forgotten in time; who asked for a run is known as a digest."""

from pathlib import Path

from alembic import op

revision = "0028"
down_revision = "0026"


def upgrade() -> None:
    script = Path(__file__).with_suffix(".sql").read_text()
    op.get_bind().connection.dbapi_connection.run_async(lambda driver: driver.execute(script))
