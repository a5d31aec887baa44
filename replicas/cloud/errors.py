"""What can go wrong between a cloud and us, by who can do something about it.

    CloudError                    502
    ├── CloudDenied               502  the operator: the key, the credit, the address or the model's name is not taken
    ├── CloudRefused  as the cloud said  the caller: the request itself is wrong there; sent again it is wrong again
    ├── CloudBusy       429, 503, 529  whoever sends: again after `retry_after_s`
    └── CloudBroken               502  whoever sends: the answer broke off or makes no sense; again may work
        └── CloudSilent           502  the same: given up here, so what was written unseen may be charged

A prompt that is too long for a cloud's model is a ContextOverflow, time that is up a DeadlineExceeded, as with a local
model (replicas/errors.py). Constructors take positional arguments, for pickling.
"""

from replicas.errors import ShoalError


class CloudError(ShoalError):
    """The pool `cloud` gave no answer, for `reason`, in the cloud's own words where it had any."""

    status = 502

    def __init__(self, cloud: str, reason: str) -> None:
        super().__init__(cloud, reason)
        self.cloud = cloud
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.cloud}: {self.reason}"


class CloudDenied(CloudError):
    """Whoever asks this cloud so is turned away: the operator has to set something right."""

    def __str__(self) -> str:
        return f"{self.cloud} does not take our requests; its key, credit, address and model name are set up wrong"


class CloudRefused(CloudError):
    """The cloud calls the request wrong, with HTTP `status`; `body` is its answer as it came."""

    def __init__(self, cloud: str, reason: str, status: int, body: str) -> None:
        ShoalError.__init__(self, cloud, reason, status, body)
        self.cloud = cloud
        self.reason = reason
        self.status = status
        self.body = body

    def __str__(self) -> str:
        return self.reason


class CloudBusy(CloudError):
    """The cloud takes no more requests now; `retry_after_s` is what it asked for, None if it did not say."""

    def __init__(self, cloud: str, reason: str, status: int, retry_after_s: float | None) -> None:
        ShoalError.__init__(self, cloud, reason, status, retry_after_s)
        self.cloud = cloud
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s


class CloudBroken(CloudError):
    """The cloud failed, or the way to it: no connection, a 5xx, an answer that broke off or cannot be read."""


class CloudSilent(CloudBroken):
    """Nothing came for too long, and nobody waits for the rest: the cloud may write it all the same, and charge it."""

    def __init__(self, cloud: str) -> None:
        ShoalError.__init__(self, cloud)
        self.cloud = cloud
        self.reason = "nothing came for too long"
