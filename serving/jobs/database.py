"""The database of the job store: SQLite in a folder, or PostgreSQL, by the same statements."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import ssl
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from serving.jobs.errors import StoreUnavailableError
from serving.jobs.job import State

Result = TypeVar("Result")

# Longest wait for the database, and how long it is passed over once it did not answer.
TIMEOUT_SECONDS = 5.0
PAUSE_SECONDS = 1.0
# Any number: it names the lock under which jobs are submitted.
SUBMISSIONS = 7146
ACTIVE = "(" + ", ".join(f"'{state}'" for state in State if not state.is_final) + ")"


class Dialect(NamedTuple):
    """What differs between databases.

    `begin`: begins a transaction that writes. `now`: seconds since 1970 by the database's clock, which all workers
    share. `skip_locked`: has a `SELECT` of a row pass over those that others are about to change. `one_at_a_time`:
    waits until no other transaction goes on that has run it; SQLite's are one at a time. `tables`: counts what the
    schema made last.
    """

    begin: str
    now: str
    skip_locked: str
    one_at_a_time: str
    tables: str


SQLITE = Dialect(
    "BEGIN IMMEDIATE",
    "((julianday('now') - 2440587.5) * 86400.0)",
    "",
    "SELECT 1",
    "SELECT count(*) FROM sqlite_master WHERE name = 'jobs_bytes'",
)
POSTGRESQL = Dialect(
    "BEGIN",
    "CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)",
    "FOR UPDATE OF chunks SKIP LOCKED",
    f"SELECT pg_advisory_xact_lock({SUBMISSIONS})",
    "SELECT count(*) FROM pg_indexes WHERE indexname = 'jobs_bytes' AND schemaname = current_schema()",
)


class Transaction:
    """The statements of one transaction.

    They have `:name` for parameters, `{now}` and the like for the dialect's words, `{active}` for the states of jobs
    that are not finished.
    """

    def __init__(self, cursor: Any, dialect: Dialect) -> None:
        self.cursor = cursor
        self.words = {**dialect._asdict(), "active": ACTIVE}

    def run(self, statement: str, **parameters: Any) -> int:
        """Run a statement; return how many rows it changed."""
        self.cursor.execute(statement.format(**self.words), parameters)
        return int(self.cursor.rowcount)

    def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """Return the rows that a statement finds, by the names of their columns."""
        self.cursor.execute(statement.format(**self.words), parameters)
        names = [column[0] for column in self.cursor.description]
        return [dict(zip(names, row, strict=True)) for row in self.cursor.fetchall()]


class Database:
    """A database on a thread of its own, with one connection, which is opened again after a fault.

    `url`: `postgresql://user:password@host:port/database`, with `?sslmode=require` for TLS, or the path of SQLite's
    file.
    """

    def __init__(self, url: str, schema: str) -> None:
        self.url = url
        self.schema = schema
        self.is_shared = is_postgresql(url)
        self.dialect = POSTGRESQL if self.is_shared else SQLITE
        self.thread = ThreadPoolExecutor(1, "tiffin-jobs")
        self.connection: Any = None
        self.file: tuple[int, int] | None = None
        self.down_until = 0.0

    async def run(self, work: Callable[[Transaction], Result]) -> Result:
        """Return what `work` returns, run as one transaction; raise StoreUnavailableError where that fails."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.transact, work)

    def transact(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` as one transaction: all of it counts, or nothing where it raises.

        It is run again where the connection was lost, which may have been after all of it had counted.
        """
        if time.monotonic() < self.down_until:  # others shall not wait for a database that is down
            raise StoreUnavailableError("the database of the job store does not answer")
        try:
            return self.attempt(work)
        except StoreUnavailableError:
            pass  # as after a restart of the database, or where two transactions waited for each other
        try:
            return self.attempt(work)
        except StoreUnavailableError:
            self.down_until = time.monotonic() + PAUSE_SECONDS
            raise

    def attempt(self, work: Callable[[Transaction], Result]) -> Result:
        """Run `work` as one transaction, once."""
        try:
            if self.connection is not None and self.file != self.file_now():
                self.disconnect()  # or what is accepted from now on would be lost with this process
            if self.connection is None:
                self.connection = self.open()
                self.file = self.file_now()
            cursor = self.connection.cursor()
            cursor.execute(self.dialect.begin)
            result = work(Transaction(cursor, self.dialect))
            self.connection.commit()
        except faults(shared=self.is_shared) as error:
            self.disconnect()
            raise StoreUnavailableError(f"the database of the job store failed: {error}") from error
        except BaseException:
            self.connection.rollback()
            raise
        return result

    def open(self) -> Any:
        """Open a connection to a database that has our tables and indexes."""
        connection = connect_postgresql(self.url) if self.is_shared else connect_sqlite(Path(self.url))
        cursor = connection.cursor()
        cursor.execute(self.dialect.begin)
        cursor.execute(self.dialect.one_at_a_time)  # two that make a table at once would fail
        cursor.execute(self.dialect.tables)
        if not cursor.fetchone()[0]:
            for statement in self.schema.split(";"):
                cursor.execute(statement)
        connection.commit()
        return connection

    def file_now(self) -> tuple[int, int] | None:
        """Return what tells SQLite's file from one that takes its place; None where there is none."""
        if self.is_shared:
            return None
        try:
            found = Path(self.url).stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def disconnect(self) -> None:
        """Drop the connection, whose state is unknown."""
        with contextlib.suppress(Exception):
            self.connection.close()
        self.connection = None

    def close(self) -> None:
        """End the thread once it has done what was asked of it."""
        self.thread.submit(self.disconnect)
        self.thread.shutdown(wait=True)


def is_postgresql(url: str) -> bool:
    """Return whether the address of a job store is one of PostgreSQL."""
    return urlsplit(url).scheme in ("postgresql", "postgres")


def faults(*, shared: bool) -> tuple[type[Exception], ...]:
    """Return the errors of a database that fails."""
    if not shared:
        return (sqlite3.Error, OSError)
    from pg8000 import exceptions

    return (exceptions.Error, OSError)


def connect_sqlite(file: Path) -> sqlite3.Connection:
    """Open SQLite's file so that what was committed outlives the process and the machine."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    connection = sqlite3.connect(file, timeout=TIMEOUT_SECONDS, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def connect_postgresql(url: str) -> Any:
    """Connect to PostgreSQL; the address may say `sslmode=require` or `verify-full`."""
    from pg8000 import dbapi  # which servers without such a store are spared

    dbapi.paramstyle = "named"
    connection = dbapi.connect(**postgresql_options(url))
    connection.autocommit = True  # transactions begin where we say so, as in SQLite
    return connection


def postgresql_options(url: str) -> dict[str, Any]:
    """Return what pg8000 needs to know of an address; raise ValueError for one that it cannot be."""
    wrong = "must be like postgresql://user:password@host/database?sslmode=require (or verify-full)"
    parts = urlsplit(url)
    try:
        port = parts.port or 5432
    except ValueError:
        raise ValueError(wrong) from None
    options = parse_qs(parts.query)
    mode = options.pop("sslmode", ["disable"])[0]
    host = options.pop("host", [parts.hostname or "localhost"])[0]  # a folder stands for the socket in it
    if options or mode not in ("disable", "require", "verify-full") or not parts.path.strip("/"):
        raise ValueError(wrong)
    context = None
    if mode != "disable":
        context = ssl.create_default_context()
        if mode == "require":  # encrypted, by whatever certificate, as libpq does
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    place = {"unix_sock": f"{host}/.s.PGSQL.{port}"} if host.startswith("/") else {"host": host, "port": port}
    return {
        **place,
        "user": unquote(parts.username or "postgres"),
        "password": unquote(parts.password) if parts.password else None,
        "database": unquote(parts.path.strip("/")),
        "ssl_context": context,
        "timeout": TIMEOUT_SECONDS,
        "application_name": "tiffin",
    }
