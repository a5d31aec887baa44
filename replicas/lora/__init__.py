"""LoRA adapters in PEFT format on stock exports: read, checked against the graph, and given to it as inputs.

An adapter adds `scale * (x A^T) B^T` to the matrix products that it targets (arXiv:2106.09685). `peft` reads its
files, `projections` finds those products in a graph under the names of Hugging Face, `weights` fits one to the other,
`graph` adds the terms. A and B are inputs of the edited graph, so adapters come and go without a new session.
"""

from replicas.lora.fitting import fitted_adapters
from replicas.lora.graph import add_lora
from replicas.lora.projections import Projection, find_projections
from replicas.lora.weights import LoraWeights

__all__ = ["LoraWeights", "Projection", "add_lora", "find_projections", "fitted_adapters"]
