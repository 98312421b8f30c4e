"""Migrations run as ``agentos_owner``, over the login role of DATABASE_URL."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection, make_url, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

# One migration at a time, whichever process starts first: any constant that nothing else in the database uses.
LOCK = 0x4147454E544F53


def migrate(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
    connection.commit()
    try:
        with connection.begin():
            for statement in ROLES:
                connection.execute(text(statement))
        connection.execute(text("SET ROLE agentos_owner"))
        connection.commit()
        context.configure(
            connection=connection,
            version_table="migrations",
            version_table_schema="agentos",
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("RESET ROLE"))
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
        connection.commit()


# Roles belong to the cluster and the schema to the login role's database, so they are made before the owner takes over.
# The login role needs CREATEROLE and CREATE on the database; where an administrator has made all this, nothing is left
# to do and neither right is needed.
ROLES = (
    """
    DO $$
    DECLARE wanted text;
    BEGIN
      FOREACH wanted IN ARRAY ARRAY['agentos_owner', 'agentos_app', 'agentos_system'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
          BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT', wanted);
          EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
          END;
        END IF;
        -- Since PostgreSQL 16 the maker of a role is a member that may not yet SET ROLE to it.
        IF NOT pg_has_role(current_user, wanted, CASE
             WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
          EXECUTE format('GRANT %I TO CURRENT_USER', wanted);
        END IF;
      END LOOP;
      IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'agentos') THEN
        CREATE SCHEMA agentos AUTHORIZATION agentos_owner;
      END IF;
    END $$
    """,
)


async def main() -> None:
    url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(
        url, poolclass=pool.NullPool, connect_args={"server_settings": {"search_path": "agentos"}}
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


asyncio.run(main())
