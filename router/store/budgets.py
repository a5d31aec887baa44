"""Money in the store. One statement compares and takes, so processes that reserve at once never take too much together;
a reservation takes from all its accounts in one transaction.

Every transaction locks accounts in the same order, and an account before its reservations, so none ends another. A
reservation that nobody settles, because its process died or lost the settlement, stays taken: a cloud may have charged
all of it. What a call cost beyond its reservation is counted, even past a limit.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from replicas.errors import BudgetSpent
from router.budget.budget import Claim, Reservation, Settlement, Taken
from router.store.database import Database
from router.store.money_tables import budgets, reservations


class BudgetTable:
    """The accounts in `database`. Methods block, and raise Unavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(self, reservation: Reservation) -> None:
        """Take from every claim, or raise BudgetSpent and take nothing."""
        with self._database.writing() as connection:
            for claim in reservation.claims:
                has_room = reservation.nano <= claim.limit_nano
                if not has_room or connection.execute(self._taking(reservation, claim)).first() is None:
                    raise BudgetSpent(claim.account)
                name = {"id": reservation.id, "account": claim.account, "period": claim.period}
                row = insert(reservations).values(**name, nano=reservation.nano, ends_at=reservation.ends_at)
                connection.execute(row)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Put what calls have cost in the place of what was reserved for them: of all, or of none."""
        mine: defaultdict[Claim, list[Settlement]] = defaultdict(list)
        for one in summed(settlements):
            for claim in one.reservation.claims:
                mine[claim].append(one)
        with self._database.writing() as connection:
            for claim in sorted(mine):
                _lock(connection, claim)
                whole = [one.reservation.id for one in mine[claim] if one.frees_nano is None]
                freed = _free(connection, _within(reservations, claim) & reservations.c.id.in_(whole))
                freed += sum(_free_part(connection, claim, one) for one in mine[claim])
                _move(connection, claim, sum(one.cost_nano for one in mine[claim]) - freed)

    def taken(self, claims: Sequence[Claim], now: float) -> list[Taken]:
        """What is taken of each claim, and what of that is held by reservations that have not ended at `now` (seconds
        since 1970)."""
        with self._database.reading() as connection:
            return [_taken(connection, claim, now) for claim in claims]

    def accounts(self, periods: Sequence[str]) -> dict[tuple[str, str], int]:
        """The same of every account of `periods`, by account and period."""
        wanted = select(budgets).where(budgets.c.period.in_(periods)).order_by(budgets.c.account, budgets.c.period)
        with self._database.reading() as connection:
            return {(str(row[0]), str(row[1])): int(row[2]) for row in connection.execute(wanted)}

    def unsettled(self, periods: Sequence[str], now: float) -> dict[tuple[str, str], int]:
        """What of that is held by reservations that have ended (`now` is seconds since 1970) and were never settled."""
        held = select(reservations.c.account, reservations.c.period, func.sum(reservations.c.nano))
        ended = held.where(reservations.c.period.in_(periods) & (reservations.c.ends_at <= now))
        with self._database.reading() as connection:
            rows = connection.execute(ended.group_by(reservations.c.account, reservations.c.period))
            return {(str(row[0]), str(row[1])): int(row[2]) for row in rows}

    def _taking(self, reservation: Reservation, claim: Claim) -> ReturningInsert[tuple[str]]:
        """Takes from an account, there or not yet, if it has room: one row then, else none."""
        new = {"account": claim.account, "period": claim.period, "taken_nano": reservation.nano}
        after = budgets.c.taken_nano + reservation.nano
        made = sqlite.insert(budgets) if self._database.is_sqlite else postgresql.insert(budgets)
        taking = made.values(new).on_conflict_do_update(
            index_elements=["account", "period"], set_={"taken_nano": after}, where=after <= claim.limit_nano
        )
        return taking.returning(budgets.c.account)


def summed(settlements: Iterable[Settlement]) -> list[Settlement]:
    """One for each reservation. What frees all of it frees the parts that others free, too."""
    found: dict[str, Settlement] = {}
    for one in settlements:
        before = found.get(one.reservation.id, Settlement(one.reservation, 0, 0))
        parts = (before.frees_nano, one.frees_nano)
        frees_nano = None if None in parts else sum(part for part in parts if part is not None)
        found[one.reservation.id] = Settlement(one.reservation, before.cost_nano + one.cost_nano, frees_nano)
    return list(found.values())


def _within(table: Table, claim: Claim) -> ColumnElement[bool]:
    return and_(table.c.account == claim.account, table.c.period == claim.period)


def _lock(connection: Connection, claim: Claim) -> None:
    connection.execute(select(budgets.c.account).where(_within(budgets, claim)).with_for_update()).all()


def _free(connection: Connection, gone: ColumnElement[bool]) -> int:
    """Delete the reservations that are `gone`; what they held."""
    rows = connection.execute(delete(reservations).where(gone).returning(reservations.c.nano))
    return sum(int(nano) for nano in rows.scalars())


def _free_part(connection: Connection, claim: Claim, one: Settlement) -> int:
    """Take what `one` frees from its reservation; what that has held of it. The account is locked."""
    row = _within(reservations, claim) & (reservations.c.id == one.reservation.id)
    held = None if one.frees_nano is None else connection.execute(select(reservations.c.nano).where(row)).scalar()
    if held is None or one.frees_nano is None:
        return 0
    if one.frees_nano >= held:
        return _free(connection, row)
    connection.execute(update(reservations).where(row).values(nano=held - one.frees_nano))
    return one.frees_nano


def _move(connection: Connection, claim: Claim, nano: int) -> None:
    if nano:
        after = budgets.c.taken_nano + nano
        connection.execute(update(budgets).where(_within(budgets, claim)).values(taken_nano=after))


def _taken(connection: Connection, claim: Claim, now: float) -> Taken:
    """In one statement: what is settled between two of them would be told as spent."""
    is_open = _within(reservations, claim) & (reservations.c.ends_at > now)
    held = select(func.coalesce(func.sum(reservations.c.nano), 0)).where(is_open).scalar_subquery()
    row = connection.execute(select(budgets.c.taken_nano, held).where(_within(budgets, claim))).first()
    return Taken(0) if row is None else Taken(int(row[0]), int(row[1]))
