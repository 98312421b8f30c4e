"""Bring the database's schema to this release: ``python -m agentos.apps.migrate``. Doing it again changes nothing."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

import agentos


def scripts() -> Path:
    """The folder of the migrations: beside the sources in a checkout, inside the package once installed."""
    package = Path(agentos.__file__).parent
    checkout = package.parent.parent / "migrations"
    return checkout if (checkout / "env.py").exists() else package / "_migrations"


def migrate() -> None:
    """Apply every migration that DATABASE_URL's database does not have. Two at once wait for each other."""
    config = Config()
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, "head")


if __name__ == "__main__":
    migrate()
