"""A trained predictor, and its file: JSON of one version, with a hash of all that it holds.

An input is each count as log(1 + count) and each gram as one over the root of how many there are, less the mean of what
was learned from, over its deviation. The logit goes through Platt's calibration (Platt 1999), which is fitted on
examples that the coefficients were not fitted on; the ends of the interval go through it too.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from replicas.errors import SettingsError
from router.learned.cloud_quality import CloudBy
from router.learned.logistic import Array, Fitted, sigmoid
from router.learned.opinion import Prediction
from router.learned.thresholds import Frontier, lowest
from router.learned.traits import GRAMS, NAMES, SCHEMA, Traits

INPUTS = len(NAMES) + GRAMS
INTERVAL = 0.8
"""Share of the posterior that an interval holds: one in ten requests may be better than it says, one in ten worse."""

Z = 1.2815515594457831
"""Of a normal distribution INTERVAL is within so many deviations."""

MARGIN, LEAST_MARGIN = 0.25, 0.1
"""How far a count may be outside of all that were seen before it is strange: of their range, and at least, both in
logarithms. A mark that was always off is strange when it is on."""

ALLOWED = NAMES.index("answer_tokens")
"""What a caller allows says little of what it asks, and is often always the same: it is taken for the nearest that was
seen, and never for strange."""

SIZE_LIMIT_BYTES = 200_000
LEAST_SCALE = 0.05
"""No input is divided by less: what was always alike would be blown up."""


class Summary(BaseModel):
    """How it was trained. Scores are of examples that were not learned from (router/learned/scores.py),
    `cloud_quality` is known by `cloud_by` (cloud_quality.py)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    examples: int = Field(ge=1)
    good_share: float
    penalty: float
    folds: int
    brier: float
    brier_of_share: float
    ece: float
    auc: float
    cloud_quality: float = Field(ge=0, le=1)
    cloud_by: CloudBy


class ModelFile(BaseModel):
    """All of it. `local` is the model that it predicts, `factor` the rows of the triangle (logistic.py), `widest` what
    the deviations of the logits of nine in ten examples stay below, each by coefficients that it had no part in.
    `until` is when the newest decision of a journal was made that it learned from, in seconds since 1970; 0: from
    none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["shoal-route-model"] = "shoal-route-model"
    version: Literal[2] = 2
    traits: int = Field(SCHEMA, ge=SCHEMA, le=SCHEMA)
    names: tuple[str, ...] = NAMES
    local: str = Field(min_length=1)
    until: float = Field(0.0, ge=0)
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    least: tuple[float, ...]
    most: tuple[float, ...]
    coefficients: tuple[float, ...]
    factor: tuple[float, ...]
    widest: float = Field(gt=0)
    calibration: tuple[float, float]
    frontier: tuple[Frontier, ...]
    summary: Summary
    hash: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> "ModelFile":
        sizes = {
            "mean": (len(self.mean), INPUTS),
            "scale": (len(self.scale), INPUTS),
            "least": (len(self.least), len(NAMES)),
            "most": (len(self.most), len(NAMES)),
            "coefficients": (len(self.coefficients), INPUTS + 1),
            "factor": (len(self.factor), (INPUTS + 1) * (INPUTS + 2) // 2),
        }
        wrong = [name for name, (found, wanted) in sizes.items() if found != wanted]
        if wrong or self.names != NAMES or min(self.scale) <= 0:
            raise ValueError(f"{', '.join(wrong) or 'names or scale'}: not what this version of Shoal trains")
        return self

    @property
    def digest(self) -> str:
        """Of all but `hash` itself."""
        tree = self.model_dump(mode="json", exclude={"hash"})
        return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()

    @property
    def text(self) -> str:
        """As it is written."""
        return json.dumps(self.model_dump(mode="json") | {"hash": self.digest}) + "\n"


class Model:
    """A predictor. Deterministic; for any thread."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        lower = np.zeros((INPUTS + 1, INPUTS + 1))
        lower[np.tril_indices(INPUTS + 1)] = file.factor
        self._fitted = Fitted(np.array(file.coefficients), lower)
        self._mean, self._scale = np.array(file.mean), np.array(file.scale)
        reach = np.maximum(LEAST_MARGIN, MARGIN * (np.array(file.most) - np.array(file.least)))
        self._least, self._most = np.array(file.least) - reach, np.array(file.most) + reach

    def predict(self, traits: Traits) -> Prediction:
        """How likely the local model's answer is good."""
        plain = self._inputs([traits])
        inputs = (plain - self._mean) / self._scale
        logit, deviation = self._fitted.logits(inputs)[0], self._fitted.deviation(inputs[0])
        slope, offset = self.file.calibration
        ends = np.array([logit, logit - Z * deviation, logit + Z * deviation])
        probability, low, high = (float(end) for end in sigmoid(slope * ends + offset))
        return Prediction(probability, low, high, self._strange(plain[0, : len(NAMES)], deviation))

    def probabilities(self, traits: Sequence[Traits]) -> Array:
        """The probabilities alone, of many requests."""
        inputs = (self._inputs(traits) - self._mean) / self._scale
        slope, offset = self.file.calibration
        return sigmoid(slope * self._fitted.logits(inputs) + offset)

    def threshold_for(self, quality: float) -> float:
        """The lowest threshold that can be trusted to keep the share `quality` of the cloud's quality; above 1 if there
        is none: then nothing goes to the local model."""
        return lowest(self.file.frontier, quality * self.file.summary.cloud_quality)

    def _inputs(self, traits: Sequence[Traits]) -> Array:
        found = inputs_of(traits)
        np.clip(found[:, ALLOWED], self.file.least[ALLOWED], self.file.most[ALLOWED], out=found[:, ALLOWED])
        return found

    def _strange(self, counts: Array, deviation: float) -> str:
        """What of `counts` is far outside; words are where what comes of them is less sure than for nine in ten
        examples."""
        outside = np.flatnonzero((counts < self._least) | (counts > self._most))
        if not len(outside):
            return "words not like those that it learned from" if deviation > self.file.widest else ""
        return f"{', '.join(NAMES[at] for at in outside[:3])} not like anything that it learned from"


def inputs_of(traits: Sequence[Traits]) -> Array:
    """Requests as numbers (requests, INPUTS), not scaled yet."""
    found = np.zeros((len(traits), INPUTS))
    for row, one in zip(found, traits, strict=True):
        row[: len(NAMES)] = np.log1p(one.counts)
        if one.grams:
            row[len(NAMES) + np.array(one.grams)] = len(one.grams) ** -0.5
    return found


def read_model(path: Path) -> Model:
    """The model in a file. Raises SettingsError that says what is wrong with it."""
    again = "train it again: `shoal route train`"
    try:
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            raise SettingsError(f"{path} is larger than {SIZE_LIMIT_BYTES} bytes: no model of this kind; {again}")
        file = ModelFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; `shoal route train` writes one") from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "file"
        raise SettingsError(f"{path}: {where}: {problem['msg']}; {again}") from error
    if file.hash != file.digest:
        raise SettingsError(f"{path} was changed after it was trained: its hash is not that of what it holds; {again}")
    return Model(file)


def write_model(model: Model, path: Path) -> None:
    """Put `model` into place at once, so that no reader sees half of it. Raises SettingsError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(model.file.text, "utf-8")
        beside.replace(path)
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}; name another file with --out") from error
