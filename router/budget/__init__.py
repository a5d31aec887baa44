"""Budgets: money is reserved at its worst case before a cloud is asked, and settled by what the cloud counted after."""

from router.budget.budget import Budget, Claim, Reservation
from router.budget.budgets import Budgets, State
from router.budget.payer import Payer

__all__ = ["Budget", "Budgets", "Claim", "Payer", "Reservation", "State"]
