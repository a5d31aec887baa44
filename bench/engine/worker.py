"""A side in a process of its own: `python -m bench.engine.worker SIDE MODEL THREADS STREAMS MAX_LEN`.

Work comes as a JSON line on standard input, answers or an error go out as one. The first line out says that the model
is open. What libraries print goes to standard error. It may run under another interpreter, which then needs only what
its side imports.
"""

import json
import os
import sys
from pathlib import Path

from bench.engine.side import Place, Side
from bench.engine.work import read_work, to_line

NAMES = ("engine", "raw loop", "og.Generator", "og.Engine")
LLAMA, REPACKED = "llama.cpp", "llama.cpp repack"


def open_side(name: str, place: Place) -> Side:
    """Side `name` of those above. Imports only what that one needs. Raises ImportError where it is not installed."""
    if name in (LLAMA, REPACKED):
        from bench.engine.llama_side import LlamaSide

        return LlamaSide(place, repacks=name == REPACKED)
    if name in ("og.Generator", "og.Engine"):
        from bench.engine.genai_sides import GenaiEngineSide, GeneratorSide

        return GeneratorSide(place) if name == "og.Generator" else GenaiEngineSide(place)
    from bench.engine.onnx_sides import EngineSide, RawSide

    return EngineSide(place) if name == "engine" else RawSide(place)


def main() -> None:
    name, model, threads, streams, max_len = sys.argv[1:]
    # Libraries write to descriptor 1 as they like; the answers keep the real one.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        side = open_side(name, Place(Path(model), int(threads), int(streams), int(max_len)))
        print(json.dumps({"ready": name}), file=out, flush=True)
        for line in sys.stdin:
            print(to_line(side.run(read_work(line))), file=out, flush=True)
    except Exception as error:  # the process's own boundary: the other side of the pipe is told
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=out, flush=True)
        raise
    finally:
        out.flush()
    os._exit(0)  # native libraries take seconds to tear down, and some crash at it


if __name__ == "__main__":
    main()
