"""Summarize files with a swarm: python examples/summarize.py FILE... (a service must be up: `shoal up`)."""

import sys

import shoal


def main(url: str, paths: list[str]) -> int:
    """Submit, show live progress on stderr, print one summary per file."""
    agent = shoal.Agent(role="summarizer", prompt="Summarize in two sentences:\n{text}")
    swarm = shoal.Swarm(agents=[agent], over={"text": [shoal.File(path) for path in paths]}, max_tokens=80)
    with shoal.connect(url) as client:
        job = client.submit(swarm)
        for event in job.events():
            if event.type is shoal.EventType.OUTPUT:
                sys.stderr.write(f"{paths[event.agent or 0]}: done\n")
        for path, output in zip(paths, job.result().outputs, strict=True):
            sys.stdout.write(f"{path}: {output.error or output.text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main("http://127.0.0.1:8000", sys.argv[1:]))
