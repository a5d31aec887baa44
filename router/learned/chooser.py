"""The predictor of a running service: its model file, what feedback says since, and the opinion that comes of both.

What was said of one model's predictions is nothing to the next: it was trained on the same scores.
"""

import threading
from collections.abc import Callable, Collection

from router.call import Call
from router.learned.live import LiveModel, in_thread
from router.learned.model import Model
from router.learned.online import Posterior
from router.learned.opinion import Opinion, opinion_of
from router.learned.traits import traits_of
from router.policy.rule import Learning


class Chooser:
    """Says whether the local model will do, by `learning`. For any thread."""

    def __init__(self, learning: Learning, aside: Callable[[Callable[[], None]], None] = in_thread) -> None:
        """Looks at the model file. Later looks are left to `aside`."""
        self._learning = learning
        self._live = LiveModel(learning.model_file, aside=aside)
        self._lock = threading.Lock()
        self._hash = ""
        self._posterior = Posterior()

    def opinion(self, call: Call, local: Collection[str]) -> Opinion:
        """Whether `call` should go to the local model first; it abstains unless that is one of `local`."""
        model = self._live.current()
        if model is None:
            return Opinion(None, f"no model: {self._live.problem}")
        name = model.file.local
        if name not in local:
            return Opinion(None, f"the model file is for {name!r}, which is not there", name)
        wanted = self._learning.threshold
        threshold = model.threshold_for(self._learning.quality) if wanted is None else wanted
        prediction = model.predict(traits_of(call))
        key_id, posterior = call.origin.payer.key_id, self._posterior_of(model)
        adjusted = posterior.adjusted(prediction, key_id)
        posterior.note(call.id, key_id, prediction)
        return opinion_of(adjusted, name, threshold)

    def learn(self, id_: str, answered_by: str, score: float) -> bool:
        """The answer `id_` got `score` (0 to 1); whether that was learned from. Only the local model's answers say
        something about it."""
        model = self._live.current()
        return model is not None and answered_by == model.file.local and self._posterior_of(model).learn(id_, score)

    def _posterior_of(self, model: Model) -> Posterior:
        """What was said since `model` was there."""
        with self._lock:
            if self._hash != model.file.hash:
                self._hash, self._posterior = model.file.hash, Posterior()
            return self._posterior
