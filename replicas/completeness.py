"""Whether all of an export is on disk: a download or a copy that broke off leaves weights short or missing."""

from pathlib import Path

from replicas.chat import ChatTokenizer
from replicas.errors import ModelImportError
from replicas.export import Export
from replicas.paged import PagedExport, is_paged
from replicas.weights import weight_files


def require_complete(directory: Path) -> Export | PagedExport:
    """The export in `directory`, with its weights and tokenizer there. Raises ModelImportError with what is missing."""
    export = PagedExport.load(directory) if is_paged(directory) else Export.load(directory)
    try:
        needed = weight_files(export.model_file)
    except OSError as error:
        reason = f"{export.model_file.name} cannot be read ({error.strerror}); import or copy it again"
        raise ModelImportError(str(directory), reason) from error
    for name, size_bytes in needed.items():
        file = export.model_file.parent / name
        there = file.stat().st_size if file.is_file() else None
        if there is None:
            raise ModelImportError(str(directory), f"its weights {name} are missing; import or copy it again")
        if there < size_bytes:
            reason = f"its weights {name} are cut off ({there} bytes of {size_bytes}); import or copy it again"
            raise ModelImportError(str(directory), reason)
    ChatTokenizer(directory)
    return export
