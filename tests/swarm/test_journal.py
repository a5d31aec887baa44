from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from cluster.swarm.job_view import JobStatus, Output
from cluster.swarm.journal import JobRecord, Journal
from replicas.engine import Usage
from replicas.errors import SettingsError


def record(job_id: str, **fields: object) -> JobRecord:
    return replace(JobRecord(job_id, "a name", ("r",), 2, created_at=1.0), **fields)  # type: ignore[arg-type]  # fields by name


def output(agent: int, words: str = "ä\x00", error: str | None = None) -> Output:
    return Output(agent, agent, "r", words, Usage(3, 2, 1), "end", error)


def test_what_is_written_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.db"
    journal = Journal(path)
    journal.accept(record("a"), "{}")
    journal.add_outputs("a", [output(1), output(0)])
    journal.close()
    again = Journal(path)
    assert again.job("a") == record("a")
    assert again.spec("a") == "{}"
    assert again.outputs("a") == [output(0), output(1)]
    again.close()


def test_an_output_is_written_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.accept(record("a"), "{}")
    journal.add_outputs("a", [output(0, "first")])
    journal.add_outputs("a", [output(0, "second"), output(1)])
    assert [one.text for one in journal.outputs("a")] == ["first", "ä\x00"]
    assert journal.output_counts(["a"]) == {"a": (2, 0, Usage(6, 4, 2))}
    journal.close()


def test_only_jobs_that_are_not_over_resume_each_in_a_new_epoch(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for job_id in ("a", "b", "c"):
        journal.accept(record(job_id), "{}")
    journal.begin("b")
    journal.finish(record("a", status=JobStatus.SUCCEEDED, finished_at=2.0), keep_jobs=9)
    assert [(one.id, one.status, one.epoch) for one in journal.resume()] == [
        ("b", JobStatus.RUNNING, 1),
        ("c", JobStatus.QUEUED, 1),
    ]
    assert [one.epoch for one in journal.resume()] == [2, 2]
    journal.close()


def test_old_jobs_go_with_their_outputs_and_open_ones_stay(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for number, job_id in enumerate("abc"):
        journal.accept(record(job_id), "{}")
        journal.add_outputs(job_id, [output(0)])
        if job_id != "a":
            over = record(job_id, status=JobStatus.FAILED, error="x", finished_at=float(number), last_seq=7)
            journal.finish(over, keep_jobs=1)
    assert [one.id for one in journal.jobs(9)] == ["c", "a"]
    assert journal.outputs("b") == []
    kept = journal.job("c")
    assert kept is not None
    assert (kept.error, kept.last_seq) == ("x", 7)
    journal.close()


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "j").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'j'}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE meta SET value = '99'"))
    engine.dispose()
    with pytest.raises(SettingsError, match="has schema 99"):
        Journal(tmp_path / "j")
