"""The journal: every accepted job and every finished output, in one SQLite file, before anybody is told of them.

A conductor that starts on an existing file finds the jobs that are not over and the outputs they already have, so no
call whose output is here is made again. An output is written once: a second one for the same agent is ignored. Commits
are synchronous (WAL with synchronous=FULL); methods block, the conductor calls them from one thread of their own.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore
from sqlalchemy.pool import StaticPool

from cluster.swarm.job_view import JobStatus, Output
from cluster.swarm.owner import NOBODY, OWNER, Owner
from replicas.engine import Usage
from replicas.errors import SettingsError

SCHEMA_VERSION = "2"
WITHOUT_OWNERS = "1"
TERMINAL = [status.value for status in JobStatus if status.is_terminal]

_metadata = MetaData()
_meta = Table("meta", _metadata, Column("key", String, primary_key=True), Column("value", String, nullable=False))
_jobs = Table(
    "jobs",
    _metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),  # the order of acceptance
    Column("id", String, nullable=False, unique=True),
    Column("spec", String, nullable=False),
    Column("name", String),
    Column("roles", JSON, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("status", String, nullable=False, index=True),
    Column("error", String),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("epoch", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("owner", String),  # JSON; null: nobody's
)
_outputs = Table(
    "outputs",
    _metadata,
    Column("job_id", String, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("agent", Integer, primary_key=True),
    Column("item", Integer, nullable=False),
    Column("role", String, nullable=False),
    Column("text", String, nullable=False),
    Column("prompt", Integer, nullable=False),
    Column("generated", Integer, nullable=False),
    Column("cached", Integer, nullable=False),
    Column("finish", String),
    Column("error", String),
)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A row of jobs without its specification; `epoch` counts the conductor starts that took the job up again."""

    id: str
    name: str | None
    roles: tuple[str, ...]
    instances: int
    created_at: float
    status: JobStatus = JobStatus.QUEUED
    error: str | None = None
    finished_at: float | None = None
    epoch: int = 0
    last_seq: int = 0
    owner: Owner = NOBODY


class Journal:
    """The jobs and outputs in the file at `path`. Raises SettingsError if another version of Shoal wrote it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # One connection for one thread at a time: the conductor's journal thread, or a test's.
        self._engine = create_engine(
            f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": 30}
        )
        event.listen(self._engine, "connect", _set_pragmas)
        with self._engine.begin() as connection:
            _metadata.create_all(connection)
            _check_version(connection, path)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def accept(self, record: JobRecord, spec: str) -> None:
        """Write a new job with the JSON of its specification."""
        owner = OWNER.dump_json(record.owner).decode()
        row = {**asdict(record), "roles": list(record.roles), "owner": owner, "spec": spec}
        with self._engine.begin() as connection:
            connection.execute(insert(_jobs).values(row))

    def begin(self, job_id: str) -> None:
        """The job runs."""
        with self._engine.begin() as connection:
            connection.execute(update(_jobs).where(_jobs.c.id == job_id).values(status=JobStatus.RUNNING.value))

    def add_outputs(self, job_id: str, outputs: Iterable[Output]) -> None:
        """Write outputs, all or none; those that are there already stay as they are."""
        rows = [
            {
                "job_id": job_id,
                "agent": output.agent,
                "item": output.item,
                "role": output.role,
                "text": output.text,
                "prompt": output.usage.prompt,
                "generated": output.usage.generated,
                "cached": output.usage.cached,
                "finish": output.finish,
                "error": output.error,
            }
            for output in outputs
        ]
        if rows:
            with self._engine.begin() as connection:
                connection.execute(insert_or_ignore(_outputs).on_conflict_do_nothing(), rows)

    def finish(self, record: JobRecord, keep_jobs: int) -> None:
        """The job is over; of the jobs that are, only the latest `keep_jobs` stay."""
        values = {
            "status": record.status,
            "error": record.error,
            "finished_at": record.finished_at,
            "last_seq": record.last_seq,
        }
        kept = select(_jobs.c.number).where(_jobs.c.status.in_(TERMINAL))
        kept = kept.order_by(_jobs.c.finished_at.desc(), _jobs.c.number.desc()).limit(keep_jobs)
        with self._engine.begin() as connection:
            connection.execute(update(_jobs).where(_jobs.c.id == record.id).values(values))
            connection.execute(delete(_jobs).where(_jobs.c.status.in_(TERMINAL), _jobs.c.number.not_in(kept)))

    def resume(self) -> list[JobRecord]:
        """The jobs that are not over, oldest first, each in a new epoch."""
        is_open = _jobs.c.status.not_in(TERMINAL)
        with self._engine.begin() as connection:
            connection.execute(update(_jobs).where(is_open).values(epoch=_jobs.c.epoch + 1))
            rows = connection.execute(_record_columns().where(is_open).order_by(_jobs.c.number)).all()
        return [_record(row) for row in rows]

    def job(self, job_id: str) -> JobRecord | None:
        """The job, if it is here."""
        with self._engine.connect() as connection:
            row = connection.execute(_record_columns().where(_jobs.c.id == job_id)).one_or_none()
        return None if row is None else _record(row)

    def spec(self, job_id: str) -> str:
        """The JSON of a job's specification."""
        with self._engine.connect() as connection:
            return str(connection.execute(select(_jobs.c.spec).where(_jobs.c.id == job_id)).scalar_one())

    def jobs(self, limit: int) -> list[JobRecord]:
        """The latest `limit` jobs, newest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(_record_columns().order_by(_jobs.c.number.desc()).limit(limit)).all()
        return [_record(row) for row in rows]

    def outputs(self, job_id: str) -> list[Output]:
        """The outputs of a job, in the order of their agents."""
        with self._engine.connect() as connection:
            wanted = select(_outputs).where(_outputs.c.job_id == job_id).order_by(_outputs.c.agent)
            rows = connection.execute(wanted).all()
        return [_output(row) for row in rows]

    def output_counts(self, job_ids: Iterable[str]) -> dict[str, tuple[int, int, Usage]]:
        """How many outputs jobs have, how many of those are errors, and their usage, without reading the texts."""
        columns = _outputs.c
        sums = [func.coalesce(func.sum(column), 0) for column in (columns.prompt, columns.generated, columns.cached)]
        wanted = select(columns.job_id, func.count(), func.count(columns.error), *sums)
        wanted = wanted.where(columns.job_id.in_(list(job_ids))).group_by(columns.job_id)
        with self._engine.connect() as connection:
            rows = connection.execute(wanted).all()
        return {str(row[0]): (int(row[1]), int(row[2]), Usage(int(row[3]), int(row[4]), int(row[5]))) for row in rows}


def _set_pragmas(raw: sqlite3.Connection, _record: object) -> None:
    cursor = raw.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _check_version(connection: Connection, path: Path) -> None:
    is_version = _meta.c.key == "schema_version"
    found = connection.execute(select(_meta.c.value).where(is_version)).scalar()
    if found is None:
        connection.execute(insert(_meta).values(key="schema_version", value=SCHEMA_VERSION))
    elif found == WITHOUT_OWNERS:
        connection.exec_driver_sql("ALTER TABLE jobs ADD COLUMN owner VARCHAR")
        connection.execute(update(_meta).where(is_version).values(value=SCHEMA_VERSION))
    elif found != SCHEMA_VERSION:
        raise SettingsError(
            f"the job journal {path} has schema {found}, this version of Shoal writes {SCHEMA_VERSION}: "
            "move the file away, or run the version that wrote it"
        )


def _record_columns() -> Select[tuple[object, ...]]:
    return select(*[_jobs.c[column.name] for column in fields(JobRecord)])


def _record(row: Row[tuple[object, ...]]) -> JobRecord:
    found = row._asdict()
    owner = NOBODY if found["owner"] is None else OWNER.validate_json(found["owner"])
    return JobRecord(**{**found, "status": JobStatus(found["status"]), "roles": tuple(found["roles"]), "owner": owner})


def _output(row: Row[tuple[object, ...]]) -> Output:
    found = row._asdict()
    return Output(
        agent=found["agent"],
        item=found["item"],
        role=found["role"],
        text=found["text"],
        usage=Usage(found["prompt"], found["generated"], found["cached"]),
        finish=found["finish"],
        error=found["error"],
    )
