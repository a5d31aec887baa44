"""An export as ONNX Runtime GenAI reads it: what its `genai_config.json` says, the graph unseen.

`engine.dynamic_batching` in it is what makes GenAI page the KV cache, so that is what tells a paged export from a
stock one. A stock one runs here too, in static batches: enough to test with, slower than the slot engine.
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError

from replicas.errors import ModelImportError

_CONFIG = "genai_config.json"


class _Dynamic(BaseModel):
    max_batch_size: int = 16


class _Engine(BaseModel):
    dynamic_batching: _Dynamic | None = None


class _Decoder(BaseModel):
    filename: str


class _Model(BaseModel):
    context_length: int = Field(gt=1)
    vocab_size: int = Field(gt=0)
    eos_token_id: int | list[int]
    decoder: _Decoder


class _Config(BaseModel):
    model: _Model
    engine: _Engine = _Engine()


@dataclass(frozen=True, slots=True)
class PagedExport:
    """A model folder. `is_paged`: GenAI batches its requests continuously; else in static batches."""

    directory: Path
    model_file: Path
    context_tokens: int
    vocab: int
    eos_ids: tuple[int, ...]
    is_paged: bool

    @property
    def name(self) -> str:
        return self.directory.name

    @classmethod
    def load(cls, path: Path) -> "PagedExport":
        """Read the export in the directory `path`. Raises ModelImportError."""
        try:
            config = _Config.model_validate_json((path / _CONFIG).read_bytes())
        except OSError as error:
            raise ModelImportError(str(path), f"{_CONFIG} cannot be read ({error.strerror})") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or _CONFIG
            raise ModelImportError(str(path), f"{_CONFIG}: {where}: {first['msg']}") from error
        eos = config.model.eos_token_id
        return cls(
            directory=path,
            model_file=(path / config.model.decoder.filename).resolve(),
            context_tokens=config.model.context_length,
            vocab=config.model.vocab_size,
            eos_ids=tuple(eos) if isinstance(eos, list) else (eos,),
            is_paged=config.engine.dynamic_batching is not None,
        )


def is_paged(path: Path) -> bool:
    """Whether the export in `path` needs this engine. Raises ModelImportError."""
    return PagedExport.load(path).is_paged
