"""Whether all of an export is on disk: a download or a copy that broke off leaves weights short or missing.

The graph names each weight's file, offset and length, so this reads the graph alone and the sizes of files.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import GraphProto, TensorProto

from replicas.chat import ChatTokenizer
from replicas.errors import ModelImportError
from replicas.export import Export
from replicas.paged import PagedExport, is_paged


def require_complete(directory: Path) -> Export | PagedExport:
    """The export in `directory`, with its weights and tokenizer there. Raises ModelImportError with what is missing."""
    export = PagedExport.load(directory) if is_paged(directory) else Export.load(directory)
    folder = export.model_file.parent
    try:
        graph = onnx.load(export.model_file, load_external_data=False).graph
    except OSError as error:
        reason = f"{export.model_file.name} cannot be read ({error.strerror}); import or copy it again"
        raise ModelImportError(str(directory), reason) from error
    needed: dict[str, int] = {}
    for name, end in _ends(graph):
        needed[name] = max(end, needed.get(name, 0))
    for name, size_bytes in needed.items():
        file = folder / name
        there = file.stat().st_size if file.is_file() else None
        if there is None:
            raise ModelImportError(str(directory), f"its weights {name} are missing; import or copy it again")
        if there < size_bytes:
            reason = f"its weights {name} are cut off ({there} bytes of {size_bytes}); import or copy it again"
            raise ModelImportError(str(directory), reason)
    ChatTokenizer(directory)
    return export


def _ends(graph: GraphProto) -> Iterator[tuple[str, int]]:
    """(file, where a weight in it ends) for every weight that is not in the graph itself."""
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            yield entries["location"], int(entries.get("offset", 0)) + int(entries.get("length", 0))
