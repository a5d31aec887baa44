"""What the service takes and gives, as an OpenAPI document: made of the routes themselves, so it has what they have."""

from deployments.openapi.document import document
from deployments.openapi.operation import Documented, Operation, Parameter

__all__ = ["Documented", "Operation", "Parameter", "document"]
