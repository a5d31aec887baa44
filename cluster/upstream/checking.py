"""Reading JSON of unknown shape: each function returns the type asked for, or raises Problem 400 with the place."""

import json
from typing import NoReturn

from cluster.upstream.asked import Json, Problem


def wrong(place: str, words: str) -> NoReturn:
    """Refuse the request for what is at `place`."""
    raise Problem(400, f"{place}: {words}", param=place)


def document(body: bytes) -> Json:
    """The JSON object that `body` is."""
    try:
        tree = json.loads(body)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Problem(400, f"The request body is not valid JSON: {error}") from error
    return an_object(tree, "body")


def an_object(value: object, place: str) -> Json:
    if not isinstance(value, dict):
        wrong(place, "Input should be a valid dictionary")
    return value


def a_list(value: object, place: str) -> list[object]:
    if not isinstance(value, list):
        wrong(place, "Input should be a valid list")
    return value


def a_text(value: object, place: str) -> str:
    if not isinstance(value, str):
        wrong(place, "Input should be a valid string")
    return value


def a_number(value: object, place: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        wrong(place, f"Input should be a number from {least:g} to {most:g}")
    return value


def a_count(value: object, place: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        wrong(place, f"Input should be an integer of {least} or more")
    return value


def objects(value: object, place: str) -> list[tuple[str, Json]]:
    """The objects of a list, each with its place."""
    return [(f"{place}.{at}", an_object(item, f"{place}.{at}")) for at, item in enumerate(a_list(value, place))]
