"""The table of errors in docs/api.md says what both dialects say, of every status that an error has."""

import json
from collections.abc import Iterator

from replicas import errors
from replicas.cloud import errors as cloud_errors
from replicas.errors import ShoalError
from router.anthropic.errors import error_value as anthropic_value
from router.openai.errors import error_value as openai_value
from tests.documents import chapter


def rows() -> dict[int, tuple[str, str]]:
    """The types in either protocol, by status."""
    lines = [line for line in chapter("docs/api.md", "## Errors").splitlines() if line.startswith("| ")][1:]
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    return {int(status): (first, second) for all_of, first, second, _ in cells for status in all_of.split(", ")}


def statuses() -> Iterator[int]:
    """Of every kind of error; those of the settings and of files never get to the edge."""
    for module in (errors, cloud_errors):
        for found in vars(module).values():
            if isinstance(found, type) and issubclass(found, ShoalError):
                yield found.status


def test_every_status_is_in_the_table() -> None:
    assert set(statuses()) <= rows().keys()


def test_the_types_are_those_that_clients_get() -> None:
    for status, types in rows().items():
        error = ShoalError("it failed")
        error.status = status
        told = [json.loads(json.dumps(value(error)))["error"]["type"] for value in (anthropic_value, openai_value)]
        assert tuple(told) == types
