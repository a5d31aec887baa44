"""Shoal from Python: connect to a running service and submit swarms.

import shoal
job = shoal.connect("http://127.0.0.1:8000").submit(shoal.Swarm(
    agents=[shoal.Agent(role="summarizer", prompt="Summarize:\\n{text}")], over={"text": texts}, max_tokens=80))
print(job.result().outputs[0].text)
"""

from cluster.client import Client, Job, JobFailed, Result, connect
from cluster.swarm.event import Event, EventType
from cluster.swarm.job_view import JobStatus, JobView, Output
from cluster.swarm.source import File
from cluster.swarm.swarm import Agent, Swarm
from replicas.engine import Usage
from replicas.errors import (
    BodyTooLarge,
    DeadlineExceeded,
    InvalidRequest,
    NotFound,
    Overloaded,
    ShoalError,
    Unavailable,
)

__all__ = [
    "Agent",
    "BodyTooLarge",
    "Client",
    "DeadlineExceeded",
    "Event",
    "EventType",
    "File",
    "InvalidRequest",
    "Job",
    "JobFailed",
    "JobStatus",
    "JobView",
    "NotFound",
    "Output",
    "Overloaded",
    "Result",
    "ShoalError",
    "Swarm",
    "Unavailable",
    "Usage",
    "connect",
]
