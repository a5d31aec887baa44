"""The size ceilings of the style guide, as a command: `python tests/ceilings.py`. Prints what is over, exits 1 if any.

Ruff holds the number of parameters and the complexity; this holds lines per file and per function.
"""

import ast
import subprocess
import sys
from pathlib import Path

FILE_LINES = 300
TEST_FILE_LINES = 500
FUNCTION_LINES = 40


def oversize(path: Path, source: str) -> list[str]:
    """What in `source` is over a ceiling, one line each."""
    found = []
    limit = TEST_FILE_LINES if path.parts[0] == "tests" else FILE_LINES
    lines = source.count("\n")
    if lines > limit:
        found.append(f"{path}: {lines} lines, at most {limit}")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}")
    return found


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"], capture_output=True, text=True, check=True
    )
    paths = [Path(line) for line in listed.stdout.splitlines() if Path(line).exists()]
    found = [line for path in paths for line in oversize(path, path.read_text())]
    sys.stdout.write("".join(f"{line}\n" for line in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
