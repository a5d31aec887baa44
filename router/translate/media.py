"""Pictures and documents, from the blocks of one dialect to the parts of the other.

A picture travels as bytes or as an address, a PDF as bytes; text documents become text. What the other side cannot get
(a file that only the first cloud holds, sound) becomes the note that a local model gets too.
"""

import re
from collections.abc import Mapping

from replicas.cloud.fields import Fields, fields, text
from router.content import block_text

PDF = "application/pdf"
_DATA = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>.*)", re.DOTALL)

Part = Mapping[str, object]


def chat_part(block: Fields) -> Part | None:
    """A content block of a message as a part of a chat message; None if there is nothing to say."""
    source = fields(block.get("source"))
    kind, media_type, data = source.get("type"), text(source.get("media_type")), text(source.get("data"))
    if block.get("type") == "image" and kind in ("base64", "url"):
        url = text(source.get("url")) if kind == "url" else f"data:{media_type};base64,{data}"
        return {"type": "image_url", "image_url": {"url": url}}
    if block.get("type") == "document" and kind == "base64" and media_type == PDF:
        name = text(block.get("title")) or "document.pdf"
        return {"type": "file", "file": {"filename": name, "file_data": f"data:{PDF};base64,{data}"}}
    said = block_text(block, "content")
    return {"type": "text", "text": said} if said else None


def message_block(part: Fields) -> Part | None:
    """A part of a chat message as a content block of a message; None if there is nothing to say."""
    if part.get("type") == "image_url":
        image = part.get("image_url")
        return _image(text(fields(image).get("url")) or text(image))
    if part.get("type") == "file" and (found := _DATA.fullmatch(text(fields(part.get("file")).get("file_data")))):
        source = {"type": "base64", "media_type": found["type"], "data": found["data"]}
        name = text(fields(part.get("file")).get("filename"))
        return {"type": "document", "source": source, **({"title": name} if name else {})}
    said = block_text(part, "content")
    return {"type": "text", "text": said} if said and said.strip() else None


def _image(url: str) -> Part:
    found = _DATA.fullmatch(url)
    if found is None:
        return {"type": "image", "source": {"type": "url", "url": url}}
    return {"type": "image", "source": {"type": "base64", "media_type": found["type"], "data": found["data"]}}
