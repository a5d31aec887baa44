"""Counters of a loop, written by its thread and read by anyone: each is one assignment, so a reader needs no lock."""

# How much one finished request moves the average that `retry_after_s` is made of.
_WEIGHT = 0.2
_LEAST_RETRY_S, _MOST_RETRY_S = 0.1, 60.0


class Tally:
    """What a loop has done."""

    def __init__(self, slots: int) -> None:
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.steps = 0
        self.prefill_s = 0.0
        self.decode_s = 0.0
        self.cached_tokens = 0
        self.preemptions = 0
        self.restarts = 0
        self.replayed_tokens = 0
        self.forced_tokens = 0
        self.draft_tokens = 0
        self.accepted_tokens = 0
        self._decodes = [0] * (slots + 1)
        self._slots = slots
        self._service_s = 0.0

    def decoded(self, rows: int, seconds: float) -> None:
        self._decodes[rows] += 1
        self.decode_s += seconds

    def prefilled(self, tokens: int, seconds: float) -> None:
        self.prompt_tokens += tokens
        self.prefill_s += seconds

    def finished(self, service_s: float) -> None:
        """A request held a slot for `service_s`."""
        self._service_s += (service_s - self._service_s) * (_WEIGHT if self._service_s else 1.0)

    def retry_after_s(self, waiting: int) -> float:
        """When a quarter of the queue is likely served: one request leaves every (mean service time / slots)."""
        estimate = self._service_s / self._slots * waiting / 4
        return round(min(_MOST_RETRY_S, max(_LEAST_RETRY_S, estimate)), 2)

    @property
    def batch_sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple((rows, count) for rows, count in enumerate(self._decodes.copy()) if count)
