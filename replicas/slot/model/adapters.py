"""The LoRA adapters of one engine: the session that runs them, and their weights in the device's memory.

The session is opened for the first request that wants an adapter, and stays: rows of the bare model keep the unedited
graph, which has less to do. That takes as long as opening the model itself, and as much memory, so nobody pays for it
before, and `open` may be called on a thread of its own. Where it failed it is not tried again for a while: whoever
sends the request again hears the same at once, and the memory is left to the answers under way. The weights of an
adapter are inputs, bound once by pointer for each range of rows: another adapter is another binding and costs nothing
per step.
"""

import logging
import threading
import time
from collections.abc import Callable

import onnxruntime as ort

from replicas.errors import EngineFailed, InvalidRequest, NotFound, ShoalError
from replicas.lora import LoraWeights
from replicas.slot.place import Device

_logger = logging.getLogger(__name__)

REST_S = 60.0
"""After a session could not be opened, so long nobody tries."""


class Adapters:
    """Adapters by name. `open_session` opens the model with LoRA terms. `names` and `open` are for any thread."""

    def __init__(
        self,
        open_session: Callable[[], ort.InferenceSession],
        device: Device,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_session = open_session
        self._device = device
        self._clock = clock
        self._opening = threading.Lock()  # guards the next two
        self._refusal: tuple[float, str] | None = None  # until when, and why
        self._session: ort.InferenceSession | None = None
        self._values: dict[str, dict[str, ort.OrtValue]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._values))

    def open(self) -> None:
        """Open the session unless it is open. Raises EngineFailed (no memory, a graph that does not run), and what
        refuses the model with a reason."""
        with self._opening:
            if self._session is None:
                self._session = self._opened()

    def add(self, name: str, weights: LoraWeights) -> None:
        """Raises InvalidRequest for a name that is taken."""
        if name in self._values:
            raise InvalidRequest(f"an adapter called {name!r} is loaded already; unload it first", "adapter")
        make = ort.OrtValue.ortvalue_from_numpy
        values = {key: make(array, self._device, 0) for key, array in weights.arrays.items()}
        self._values = {**self._values, name: values}  # in one step, for those who read the names

    def remove(self, name: str) -> None:
        """Raises NotFound for a name that is not loaded."""
        self._values_of(name)
        self._values = {other: values for other, values in self._values.items() if other != name}

    def bind(self, name: str) -> tuple[ort.InferenceSession, ort.IOBinding]:
        """The session, and a new binding of it with the adapter's weights in. Raises NotFound, and as `open` does."""
        values = self._values_of(name)
        self.open()
        session = self._session
        assert session is not None
        binding = session.io_binding()
        for key, value in values.items():
            binding.bind_ortvalue_input(key, value)
        return session, binding

    def close(self) -> None:
        """Free the weights and the session; nothing may be bound to them any more."""
        self._values = {}
        self._session = None

    def _opened(self) -> ort.InferenceSession:
        if self._refusal is not None and self._clock() < self._refusal[0]:
            raise EngineFailed(self._refusal[1])
        try:
            return self._open_session()
        except ShoalError:
            raise
        except Exception as error:
            reason = f"LoRA adapters cannot be opened: {str(error) or type(error).__name__}"
            _logger.exception("%s", reason)
            self._refusal = self._clock() + REST_S, reason
            raise EngineFailed(reason) from error

    def _values_of(self, name: str) -> dict[str, ort.OrtValue]:
        if name not in self._values:
            raise NotFound("adapter", name, f"loaded: {', '.join(self.names) or 'none'}")
        return self._values[name]
