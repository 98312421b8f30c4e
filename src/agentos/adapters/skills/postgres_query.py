"""Read rows from a PostgreSQL database, and change nothing there.

Five things keep it a read, each alone enough for what it stops:

- the role: one that could change anything in this database, or step out of SQL, is refused before anything else is
  said, and what it could do is named;
- the grammar: the query, whole by itself, stands inside ``DECLARE … CURSOR FOR SELECT … FROM (query)``, where only one
  query can stand: no second statement, no COPY, SET, DO or CALL, no data-changing WITH;
- the transaction: READ ONLY, which PostgreSQL does not let its own statements lift again, and always rolled back;
- the parameters: sent beside the query, never put into its text;
- the limits: of time by the server and once more here, of rows, of a row and of all rows in bytes, cut by the server.

PostgreSQL lets no transaction undo what a function does outside of it: signals to other sessions of the same role,
files, connections of an extension. Those that PostgreSQL and its own extensions have are refused by name, wherever the
query names them; the code of other functions nobody can look through, so give the role only what it may execute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import asyncpg
from pydantic import Field
from typing_extensions import TypedDict

from agentos.kernel.errors import Forbidden, Invalid, Unavailable
from agentos.runtime.skills import SkillContext, skill

MOST_ROWS: Final = 1000
DEFAULT_ROWS: Final = 100
ROW_BYTES: Final = 64 * 1024  # characters of one row as JSON
ALL_BYTES: Final = 1024 * 1024  # characters of all rows: ~250,000 tokens, more than a model reads at once
BATCH: Final = 16  # rows in memory at once, at most 16 × 64 KiB
CONNECT_SECONDS: Final = 5.0
MARGIN_SECONDS: Final = 1.0
EXACT: Final = 2**53  # JSON's numbers are doubles: larger whole numbers go as text

# Types of parameters whose text form is sent as it is; PostgreSQL reads them itself.
_AS_TEXT: Final = (
    *("int2", "int4", "int8", "float4", "float8", "numeric", "money", "oid", "uuid", "date", "time", "timetz"),
    *("timestamp", "timestamptz", "interval", "inet", "cidr", "macaddr", "json", "jsonb", "text", "varchar", "bpchar"),
    *("name", "xml", "bytea", "bool"),
)
# What the role could do besides reading, the first of it. Rights that it has by membership count, whether it inherits
# them or would have to SET ROLE. Temporary tables are its own and are gone with the session.
_POWERS: Final = """
WITH mine AS (SELECT oid, rolname FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER')),
relations AS (
  SELECT c.oid, c.relkind, c.relowner, format('%I.%I', n.nspname, c.relname) AS named
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
)
SELECT power FROM (
  SELECT 1, 'it is a superuser' FROM pg_roles JOIN mine USING (oid) WHERE rolsuper
  UNION ALL SELECT 2, 'it may make roles' FROM pg_roles JOIN mine USING (oid) WHERE rolcreaterole
  UNION ALL SELECT 3, 'it may make databases' FROM pg_roles JOIN mine USING (oid) WHERE rolcreatedb
  UNION ALL SELECT 4, 'it may replicate' FROM pg_roles JOIN mine USING (oid) WHERE rolreplication
  UNION ALL SELECT 5, 'it has BYPASSRLS' FROM pg_roles JOIN mine USING (oid) WHERE rolbypassrls
  UNION ALL SELECT 6, 'it is a member of ' || rolname FROM mine WHERE rolname = ANY($1)
  UNION ALL SELECT 7, 'it owns the database' FROM pg_database JOIN mine ON mine.oid = datdba
    WHERE datname = current_database()
  UNION ALL SELECT 8, 'it may create in the database' FROM mine
    WHERE has_database_privilege(mine.oid, current_database(), 'CREATE')
  UNION ALL SELECT 9, 'it may create in the schema ' || quote_ident(nspname) FROM pg_namespace, mine
    WHERE has_schema_privilege(mine.oid, pg_namespace.oid, 'CREATE') AND nspname !~ '^pg_(temp|toast)'
  UNION ALL SELECT 10, 'it owns ' || named FROM relations JOIN mine ON mine.oid = relowner
  UNION ALL SELECT 11, 'it may change ' || named FROM relations, mine
    WHERE relkind <> 'S' AND (has_any_column_privilege(mine.oid, relations.oid, 'INSERT, UPDATE')
      OR has_table_privilege(mine.oid, relations.oid, 'DELETE, TRUNCATE, TRIGGER'))
  UNION ALL SELECT 12, 'it may change ' || named FROM relations, mine
    WHERE relkind = 'S' AND has_sequence_privilege(mine.oid, relations.oid, 'USAGE, UPDATE')
  UNION ALL SELECT 13, 'it may execute ' || p.oid::regprocedure FROM pg_proc p, mine
    WHERE p.proname = ANY($2) AND p.pronamespace = 'pg_catalog'::regnamespace
      AND has_function_privilege(mine.oid, p.oid, 'EXECUTE')
) AS powers (place, power) ORDER BY place, power LIMIT 1
"""
_TOO_STRONG: Final = (
    "pg_execute_server_program",
    "pg_read_server_files",
    "pg_write_server_files",
    "pg_write_all_data",
    "pg_database_owner",
    "pg_signal_backend",
    "pg_signal_autovacuum_worker",
    "pg_checkpoint",
    "pg_maintain",
    "pg_create_subscription",
    "pg_use_reserved_connections",
)
# Functions of the server that only a role which is too strong may execute.
_OF_OPERATORS: Final = (
    *("pg_reload_conf", "pg_rotate_logfile", "pg_promote", "pg_switch_wal", "pg_create_restore_point", "lo_export"),
    *("lo_import", "pg_read_file", "pg_read_binary_file", "pg_ls_dir", "pg_stat_reset", "pg_wal_replay_pause"),
)
# Functions that everybody may execute, and that act on other sessions, on other servers, on what is not taken back, or
# execute a text as a query. No read needs one, so a query that names one is refused, also where it only says its name.
_OUTSIDE: Final = re.compile(
    r"\b(?:pg_(?:terminate|cancel)_backend|pg_log_backend_memory_contexts|pg_logical_emit_message|pg_replication_\w+"
    r"|pg_(?:create|drop|copy|sync)_\w*slots?\w*|pg_(?:reload_conf|rotate_logfile|promote)|lo_(?:import|export)"
    r"|dblink\w*|postgres_fdw_disconnect\w*|http_(?:get|head|post|put|patch|delete)|ts_(?:stat|rewrite)"
    r"|(?:query|cursor|table|schema|database)_to_xml\w*|crosstab\w*|connectby|xpath_table)\b",
    re.IGNORECASE,
)


class DatabaseAddressMalformed(Invalid):
    """The secret that names a database is not postgresql://user:password@host:port/name."""

    code = "database_address_malformed"


class DatabaseRoleTooStrong(Forbidden):
    """The role could do more than read: change data, make or own something, or step out of SQL. The error says what."""

    code = "database_role_too_strong"


class QueryRefused(Invalid):
    """PostgreSQL does not take the query, or its parameters."""

    code = "query_refused"


class QueryForbidden(Forbidden):
    """The query would change something, or read what the role may not."""

    code = "query_forbidden"


class QueryTooSlow(Invalid):
    """The query did not end in time; it was cancelled."""

    code = "query_too_slow"


class RowTooLarge(Invalid):
    """One row is larger than an answer may be."""

    code = "row_too_large"


class QueriedDatabaseUnavailable(Unavailable):
    """The database cannot be reached, or broke off."""

    code = "queried_database_unavailable"


class Rows(TypedDict):
    """Rows by their columns' names. ``truncated``: there are more, or they would be more than an answer holds."""

    rows: list[dict[str, Any]]
    count: int
    truncated: bool


@skill(
    version="1",
    effect="S0",
    timeout="26s",
    stable=("rows", "count", "truncated"),
    failures=(
        DatabaseAddressMalformed,
        DatabaseRoleTooStrong,
        QueriedDatabaseUnavailable,
        QueryForbidden,
        QueryRefused,
        QueryTooSlow,
        RowTooLarge,
    ),
)
async def postgres_query(
    context: SkillContext,
    database: Annotated[
        str, Field(pattern=r"^secret://[A-Za-z0-9_-]{1,64}$", description="The database, by reference: secret://NAME.")
    ],
    query: Annotated[
        str, Field(min_length=1, max_length=20_000, description="One SELECT, VALUES or WITH; $1, $2 … for parameters.")
    ],
    parameters: Annotated[
        list[str | int | float | bool | None],
        Field(max_length=100, description="Values of $1, $2 …; dates, numbers and JSON may be given as text."),
    ] = [],  # noqa: B006  # a default of the schema, never changed
    max_rows: Annotated[int, Field(ge=1, le=MOST_ROWS, description="Most rows; more are cut and marked.")] = (
        DEFAULT_ROWS
    ),
    timeout_seconds: Annotated[float, Field(ge=0.1, le=20, description="When the query is cancelled.")] = 10.0,
) -> Rows:
    """Read rows from a PostgreSQL database in a read-only transaction."""
    if outside := _OUTSIDE.search(_plain(query)):
        raise QueryForbidden(
            f"'{outside[0][:60]}' acts outside of the transaction, where nothing takes it back",
            then="Leave it out; write such a text as a parameter.",
        )
    seconds = min(timeout_seconds, max(0.1, context.timeout.total_seconds() - MARGIN_SECONDS - CONNECT_SECONDS))
    connection = await _connected(context.secret(database.removeprefix("secret://")), seconds)
    try:
        return await _read(connection, query, parameters, max_rows, seconds)
    except (TimeoutError, asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError):
        raise QueryTooSlow(
            f"the query did not end within {seconds:g} s", then="Ask for less, or wait longer."
        ) from None
    except (asyncpg.ReadOnlySQLTransactionError, asyncpg.InsufficientPrivilegeError) as error:
        raise QueryForbidden(f"PostgreSQL refuses it: {_said(error)}", then="Only what the role may read.") from None
    except (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, OSError) as error:
        raise QueriedDatabaseUnavailable(f"the database broke off: {type(error).__name__}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, TypeError) as error:
        raise QueryRefused(f"PostgreSQL does not take it: {_said(error)}", then="Mend the query.") from None
    finally:
        connection.terminate()  # nothing of it lives on: no lock, no setting, no temporary table


async def _connected(address: str, seconds: float) -> asyncpg.Connection[asyncpg.Record]:
    malformed = DatabaseAddressMalformed(
        "the secret does not name a database", then="Write postgresql://user:password@host:port/name."
    )
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("postgresql", "postgres") or not (parts.hostname and parts.username and parts.path[1:]):
            raise malformed
        connection = await asyncpg.connect(
            address,
            timeout=CONNECT_SECONDS,
            command_timeout=seconds + MARGIN_SECONDS / 2,
            statement_cache_size=0,
            server_settings={
                "default_transaction_read_only": "on",
                "statement_timeout": str(round(seconds * 1000)),
                "lock_timeout": str(round(seconds * 1000)),
                "idle_in_transaction_session_timeout": str(round((seconds + CONNECT_SECONDS) * 1000)),
                "search_path": '"$user", public',
                "application_name": "agentos postgres_query",
            },
        )
    except (ValueError, asyncpg.ClientConfigurationError):
        raise malformed from None
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        raise DatabaseAddressMalformed(
            f"the database does not let us in: {type(error).__name__}", then="Mend the secret."
        ) from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise QueriedDatabaseUnavailable(f"the database cannot be reached: {type(error).__name__}") from None
    try:
        power = await connection.fetchval(_POWERS, list(_TOO_STRONG), list(_OF_OPERATORS))
        if power is not None:
            raise DatabaseRoleTooStrong(
                f"the database's role could do more than read: {power[:200]}",
                then="Name a role of its own that may only SELECT.",
            )
        for one in _AS_TEXT:
            await connection.set_type_codec(one, schema="pg_catalog", encoder=_text, decoder=str, format="text")
    except asyncpg.PostgresError as error:
        connection.terminate()
        raise QueriedDatabaseUnavailable(
            f"nobody can tell what the role may do: {type(error).__name__}", then="Try it again later."
        ) from None
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _read(
    connection: asyncpg.Connection[asyncpg.Record],
    query: str,
    parameters: Sequence[Any],
    most: int,
    seconds: float,
) -> Rows:
    async with connection.transaction(readonly=True):
        wanted = query.rstrip().removesuffix(";")
        await connection.prepare(wanted)  # whole by itself, so that it cannot end what it is put into
        # Each row as JSON made by PostgreSQL and cut there: a row of a gigabyte never leaves it. ``fetch`` and not
        # ``execute``, which would send several statements as several.
        cut = f"DECLARE found NO SCROLL CURSOR FOR SELECT left(to_json(q)::text, {ROW_BYTES + 1}) FROM (\n{wanted}\n) q"  # noqa: S608
        await connection.fetch(cut, *parameters)
        rows: list[dict[str, Any]] = []
        held = 0
        while True:
            # Said again before each batch, since a function in the query can change its own session's settings.
            await connection.execute(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
            batch = await connection.fetch(f"FETCH {BATCH} FROM found")
            for (text,) in batch:
                held += len(text)
                if len(text) > ROW_BYTES:
                    raise RowTooLarge(f"a row is larger than {ROW_BYTES} characters", then="Select fewer columns.")
                if len(rows) == most or held > ALL_BYTES:
                    return {"rows": rows, "count": len(rows), "truncated": True}
                rows.append(_row(text))
            if len(batch) < BATCH:
                return {"rows": rows, "count": len(rows), "truncated": False}


def _plain(query: str) -> str:
    """The query as its names are read: without quotes around them, and with its U& escapes refused."""
    if re.search(r"u&\s*\"", query, re.IGNORECASE):
        raise QueryForbidden("names with U& escapes are not taken", then="Write the name itself.")
    return query.replace('"', "")


def _row(text: str) -> dict[str, Any]:
    found = json.loads(text, parse_int=_whole, parse_float=_fraction)
    return found if isinstance(found, dict) else {"value": found}


def _whole(digits: str) -> int | str:
    return number if abs(number := int(digits) if len(digits) < 20 else EXACT) < EXACT else digits


def _fraction(digits: str) -> float | str:
    """A number that a double holds as it is written; else the digits."""
    number = float(digits)
    return number if abs(number) < EXACT and Decimal(repr(number)) == Decimal(digits) else digits


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _said(error: Exception) -> str:
    """What PostgreSQL said of the query, on one line and without what stands in the rows."""
    message = getattr(error, "message", None) or str(error).splitlines()[0] if str(error) else type(error).__name__
    return f"{message}"[:300]
