"""Grammars that are meant to hang, to fill the memory or to end the process end in a refusal, or in bounded masks.

They are followed in a process of their own: only then a crash is seen, and the memory is theirs alone.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

import pytest

from replicas.engine import Grammar
from replicas.errors import InvalidRequest
from tests.replicas.grammars import END_IDS, allowed, compiler

Kind: TypeAlias = Literal["json_schema", "regex", "lark"]

WAIT_S = 100.0
"""Only a grammar that hangs takes so long: all of a kind are done in 4 s."""
MEMORY_BYTES = 700 << 20
"""The peak of a process that followed them all and keeps the last ones."""
STEPS = 60


def chain(length: int, member: Callable[[str], object]) -> str:
    """A schema whose definitions lead from one to the next."""
    links = {f"d{i}": member(f"#/$defs/d{i + 1}") for i in range(length)}
    return json.dumps({"$defs": {**links, f"d{length}": {"type": "string"}}, "$ref": "#/$defs/d0"})


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + "{}" + closing * depth


SCHEMAS = {
    "an enum of 12000 values": json.dumps({"enum": [f"value {i * 7919}" for i in range(12_000)]}),
    "an enum of 3000 objects": json.dumps({"enum": [{"a": i, "b": [i]} for i in range(3000)]}),
    "an enum of long values": json.dumps({"enum": ["x" * 100_000, "y" * 100_000]}),
    "objects 60 deep": nested('{"properties":{"a":', "}}", 60),
    "objects 5000 deep": nested('{"properties":{"a":', "}}", 5000),
    "lists 100000 deep": '{"const":' + "[" * 100_000 + "]" * 100_000 + "}",
    "a schema of itself": '{"$ref": "#"}',
    "two schemas of each other": '{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}',
    "a chain of 900 references": chain(900, lambda target: {"properties": {"a": {"$ref": target}}}),
    "a chain of 5000 references": chain(5000, lambda target: {"$ref": target}),
    "a chain of joined references": chain(990, lambda target: {"allOf": [{"$ref": target}, {"minLength": 1}]}),
    "references that double": chain(40, lambda target: {"allOf": [{"$ref": target}, {"$ref": target}]}),
    "unions that multiply": json.dumps(
        {"allOf": [{"anyOf": [{"properties": {f"p{i}{j}": {}}} for j in range(6)]} for i in range(8)]}
    ),
    "patterns that are joined": json.dumps({"allOf": [{"pattern": f".*[a-m].{{{n}}}.*"} for n in range(10, 24)]}),
    "multiples that are joined": json.dumps({"allOf": [{"multipleOf": n} for n in (97, 89, 83, 79)]}),
    "5000 optional members": json.dumps({"properties": {f"p{i}": {"type": "string"} for i in range(5000)}}),
    "a million members": '{"type": "object", "minProperties": 1000000}',
    "a million items": '{"type": "array", "items": {"type": "object"}, "minItems": 1000000}',
    "a million characters": '{"type": "string", "minLength": 100000, "maxLength": 1000000}',
    "a huge number": '{"type": "integer", "minimum": -' + "9" * 5000 + "}",
    "an infinite multiple": '{"multipleOf": 1e999}',
}
EXPRESSIONS = {
    "repetitions of repetitions": "((a{1000}){1000}){1000}",
    "exponential backtracking": "(a+)+(a|aa)+(.*)*b$",
    "an exponential automaton": ".*a.{300}.*b.{200}",
    "a long word": "ab c" * 8000,
    "many groups": "(a|b)" * 6000,
    "parentheses 5000 deep": "(" * 5000 + "a" + ")" * 5000,
    "optional letters": "a?" * 2000 + "a" * 2000,
    "every alphabet": r"\p{L}{500}\P{Greek}{300}",
}
LARKS = {
    "an ambiguous grammar": 'start: e\ne: e e | "a" | "b" | e e e',
    "nothing, again and again": 'start: x*\nx: y*\ny: ""',
    "rules that double": "start: r0\n" + "\n".join(f"r{i}: r{i + 1} r{i + 1}" for i in range(900)) + '\nr900: "a"',
    "a chain of 20000 rules": "start: r0\n" + "\n".join(f"r{i}: r{i + 1}" for i in range(20_000)) + '\nr20000: "a"',
    "terminals that double": "start: T0\n" + "\n".join(f"T{i}: T{i + 1} T{i + 1}" for i in range(40)) + '\nT40: "a"',
    "expressions that must all match": "start: T\nT: " + " & ".join(f"/.*a.{{{n}}}.*/" for n in range(10, 24)),
    "an expression that must not match": "start: T\nT: ~/.*a.{20}.*/",
    "a million repetitions": 'start: ("a"{1000}){1000}',
    "parentheses": "start: " + "(" * 50_000 + '"a"' + ")" * 50_000,
    "a schema in it that is 5000 deep": "start: %json " + nested('{"properties":{"a":', "}}", 5000),
    "references in it under another spelling": "start: %json "
    + chain(4000, lambda target: {"properties": {"a": {"$ref": target}}}).replace("$ref", "$r\\u0065f"),
    "blank lines": "\n" * 200_000 + 'start: "a"',
    "GBNF of 9000 rules": "root ::= r0\n" + "\n".join(f"r{i} ::= r{i + 1}" for i in range(9000)) + '\nr9000 ::= "a"',
    "GBNF 20000 deep": "root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000,
}
HOSTILE: Mapping[Kind, Mapping[str, str]] = {"json_schema": SCHEMAS, "regex": EXPRESSIONS, "lark": LARKS}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_grammars_are_refused_or_followed_within_bounds(kind: Kind) -> None:
    command = [sys.executable, "-m", "tests.replicas.test_grammar_hostile", kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, f"ended after {done.stdout.splitlines()[-1:]}: {done.stderr[-500:]}"
    *names, peak_bytes = done.stdout.splitlines()
    assert names == list(HOSTILE[kind])
    assert int(peak_bytes) < MEMORY_BYTES


def follow(grammar: Grammar) -> None:
    """A walk of some steps, or a refusal: anything else that is raised ends the process."""
    random = Random(0)
    try:
        constraint = compiler().compile(grammar)
        for _ in range(STEPS):
            constraint.begin()
            tokens = [token for token in allowed(constraint.mask()) if token not in END_IDS]
            if not tokens:
                return
            constraint.accept(random.choice(tokens))
    except InvalidRequest:
        return


def peak_bytes() -> int:
    """The most memory this process has had resident. What `getrusage` calls so is its parent's, if that is more."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main(kind: Kind) -> None:
    for name, text in HOSTILE[kind].items():
        follow(Grammar(kind, text))
        sys.stdout.write(f"{name}\n")
        sys.stdout.flush()
    compiler().close()
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main(next(kind for kind in HOSTILE if kind == sys.argv[1]))
