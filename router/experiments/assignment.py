"""Who gets which variant: a hash of the experiment's name and of whoever asks, so it is the same in every process and
after every restart, and independent between experiments.

A conversation keeps its variant; without a session its key does, and without a key each request is on its own. Whether
somebody takes part, and which variant it is then, are two hashes: a larger share lets others in and moves nobody.
"""

from hashlib import blake2b

from router.experiments.experiment import Experiment, Variant

POINT_BYTES = 6
"""48 bits, which a float holds exactly."""


def variant_of(experiment: Experiment, unit: str) -> Variant | None:
    """The variant of `unit`; None if it takes no part."""
    if point(experiment.name, "share", unit) >= experiment.share:
        return None
    left = point(experiment.name, "variant", unit) * sum(variant.weight for variant in experiment.variants)
    for variant in experiment.variants[:-1]:
        left -= variant.weight
        if left < 0:
            return variant
    return experiment.variants[-1]


def point(*texts: str) -> float:
    """A number in [0, 1) that `texts` alone decide, evenly spread."""
    told = "\0".join(texts).encode("utf-8", "replace")
    return int.from_bytes(blake2b(told, digest_size=POINT_BYTES).digest(), "big") / float(1 << 8 * POINT_BYTES)
