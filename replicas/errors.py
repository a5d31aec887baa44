"""Every error that Shoal raises on purpose.

A class says who must act and which HTTP status the edge renders; a dialect only words it.

    ShoalError                 500  we must act: a bug, or a part that broke
    ├── InvalidRequest         400  the caller: the request can never work as it is
    │   ├── ContextOverflow    400  the caller: the prompt is longer than the model's context
    │   └── Unsupported        400  the caller: this model cannot do it; another one may
    ├── Unauthenticated        401  the caller: an API key that is good
    ├── BudgetSpent            402  the operator: a larger budget, or local models in the route
    ├── Forbidden              403  the caller: a key that may do it, or the operator: the settings
    ├── Withheld               403  the caller: a private request may not leave; a local model answers it
    ├── NotFound               404  the caller: no such model, job or path
    ├── BodyTooLarge           413  the caller: a smaller body
    ├── DeadlineExceeded       408  the caller: more time or less work
    ├── Overloaded             429  the caller: again after `retry_after_s`
    │   ├── LimitReached       429  the caller: the same; it is the API key's limit
    │   └── BudgetHeld         429  the caller: the same; calls under way hold what is left of the budget
    ├── EngineFailed           500  we: a model run broke; the request may be sent again
    ├── Unavailable            503  the operator: nothing that could answer is up
    ├── ModelImportError         -  the user: this model file cannot be used, the message says why
    └── SettingsError            -  the operator: the settings are wrong, the message names the key

Constructors take positional arguments and hand all of them to `super().__init__`: only such exceptions survive
the pickling between Ray processes (a test round-trips every class).
"""


class ShoalError(Exception):
    """Root of the tree. `status` is the HTTP status that the edge renders."""

    status = 500


class InvalidRequest(ShoalError):
    """The request can never work as it is: `message` says what to change, `param` names the field."""

    status = 400

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message, param)
        self.message = message
        self.param = param

    def __str__(self) -> str:
        return self.message


class ContextOverflow(InvalidRequest):
    """The prompt does not fit: `tokens` of it against a context of `limit` tokens."""

    def __init__(self, tokens: int, limit: int) -> None:
        ShoalError.__init__(self, tokens, limit)
        # Clients parse these words (facts: Anthropic wire format).
        self.message = f"prompt is too long: {tokens} tokens > {limit} maximum"
        self.param = "messages"
        self.tokens = tokens
        self.limit = limit


class Unsupported(InvalidRequest):
    """The request asks what the model that was chosen cannot do: `message` says which, `param` names the field.

    Where a route has another model, that one is asked.
    """


class Unauthenticated(ShoalError):
    """Nobody knows who asks: `reason` says what is wrong with the key, and never quotes it."""

    status = 401

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class BudgetSpent(ShoalError):
    """A cloud would have to be paid, up to `most_usd`, and `budget` (empty: one of them) has `left_usd`: too little."""

    status = 402

    def __init__(self, budget: str = "", left_usd: float = 0.0, most_usd: float = 0.0) -> None:
        super().__init__(budget, left_usd, most_usd)
        self.budget = budget
        self.left_usd = left_usd
        self.most_usd = most_usd

    def __str__(self) -> str:
        whose = f"the budget {self.budget!r}" if self.budget else "the budget"
        if self.left_usd <= 0:
            return f"{whose} is spent; local models cost nothing"
        left = f"{whose} has ${self.left_usd:.6f} left, and this may cost ${self.most_usd:.6f}"
        return f"{left}; ask for fewer tokens, or a local model, which costs nothing"


class Forbidden(ShoalError):
    """Whoever asks may not do this: `reason` says what is missing."""

    status = 403

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Withheld(ShoalError):
    """The request may not go to a cloud: `reason` says why, and never quotes what it holds."""

    status = 403

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the request may not leave for a cloud: {self.reason}"


class NotFound(ShoalError):
    """There is no `kind` (model, job, path) called `name`; `hint` says what there is instead."""

    status = 404

    def __init__(self, kind: str, name: str, hint: str = "") -> None:
        super().__init__(kind, name, hint)
        self.kind = kind
        self.name = name
        self.hint = hint

    def __str__(self) -> str:
        tail = f": {self.hint}" if self.hint else ""
        return f"{self.kind} {self.name!r} does not exist{tail}"


class BodyTooLarge(ShoalError):
    """The body is over `limit_bytes`."""

    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes)
        self.limit_bytes = limit_bytes

    def __str__(self) -> str:
        return f"the request body is larger than {self.limit_bytes} bytes"


class DeadlineExceeded(ShoalError):
    """The request was not done within `deadline_s`."""

    status = 408

    def __init__(self, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self.deadline_s = deadline_s

    def __str__(self) -> str:
        return f"not finished within {self.deadline_s:g} s"


class Overloaded(ShoalError):
    """The queue of `pool` is full; the caller retries after `retry_after_s`."""

    status = 429

    def __init__(self, pool: str, retry_after_s: float) -> None:
        super().__init__(pool, retry_after_s)
        self.pool = pool
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"the queue of {self.pool} is full; try again in {self.retry_after_s:g} s"


class LimitReached(Overloaded):
    """The API key has a limit, such as "60 requests a minute", and this was one more."""

    def __init__(self, limit: str, retry_after_s: float) -> None:
        super().__init__(limit, retry_after_s)
        self.limit = limit

    def __str__(self) -> str:
        return f"the API key is limited to {self.limit}; try again in {self.retry_after_s:.3g} s"


class BudgetHeld(Overloaded):
    """What a cloud would have to be paid is not spent, but `held_usd` of `budget` is held for calls under way, each for
    the most that it may cost; what they do not spend comes back as they end."""

    def __init__(self, budget: str, held_usd: float, retry_after_s: float) -> None:
        ShoalError.__init__(self, budget, held_usd, retry_after_s)
        self.pool = self.budget = budget
        self.held_usd = held_usd
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        held = f"${self.held_usd:.6f} of the budget {self.budget!r} is held by calls under way, not spent"
        return f"{held}; try again in {self.retry_after_s:g} s"


class EngineFailed(ShoalError):
    """A run of the model broke while this request was in it; `reason` is for the operator."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the engine failed: {self.reason}"


class Unavailable(ShoalError):
    """Nothing that could answer is up: `what` is missing, `fix` says what brings it back, and `retry_after_s` when it
    will be tried again, if that is known."""

    status = 503

    def __init__(self, what: str, fix: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(what, fix, retry_after_s)
        self.what = what
        self.fix = fix
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.what} is not available" + (f"; {self.fix}" if self.fix else "")


class ModelImportError(ShoalError):
    """A model file cannot be used: `path`, and the `reason` with what would work."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot import {self.path}: {self.reason}"


class SettingsError(ShoalError):
    """The settings are wrong: `message` names the key and the nearest right one."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
