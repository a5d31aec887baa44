"""The journal of decisions in a process of the service: where its rows go, and answers that it follows."""

import logging
from collections.abc import AsyncGenerator, Callable

from deployments.plan import AppPlan
from deployments.prepared import Prepared
from deployments.routed import Routed
from replicas.engine import Chunk
from replicas.errors import ShoalError
from router.journal.archive import Archive
from router.store import Store, join_store

logger = logging.getLogger(__name__)


def archive_of(plan: AppPlan, store: Store, on_lost: Callable[[int], None]) -> Archive | None:
    """The archive of a process that has `store` open; None where nothing is to be kept."""
    return None if plan.journal is None else Archive(store, plan.journal, on_lost)


def joined_archive(plan: AppPlan) -> Archive | None:
    """The archive of a process beside the ingress, which keeps the store's tables up to date and drops old rows."""
    if plan.store is None or plan.journal is None:
        return None
    try:
        store = join_store(plan.store)
    except ShoalError as error:
        logger.warning("what this process decides will not be in the journal: %s", error)
        return None
    return Archive(store, None, _lost, closed=store.close)


def followed(work: Prepared | Routed, chunks: AsyncGenerator[list[Chunk], None]) -> AsyncGenerator[list[Chunk], None]:
    """`chunks` of `work`, on record."""
    return chunks if work.record is None else work.record.follow(work, chunks)


def _lost(count: int) -> None:
    logger.warning("%d decisions were lost", count)
