"""Ids of answers to one request: the first has the request's own, each other one a number behind it."""


def numbered_id(id_: str, number: int) -> str:
    """The id of one of several calls."""
    return id_ if number == 0 else f"{id_}-{number}"


def first_id(id_: str) -> str:
    """The id of the first of several calls of which `id_` is one."""
    first, _, number = id_.rpartition("-")
    return first if number.isdecimal() and "-" in first else id_
