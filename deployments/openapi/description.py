"""What every operation of the edge takes and gives."""

from deployments.adapter_desk import Wanted
from deployments.feedback import ACCEPTED, FeedbackBody
from deployments.openapi.operation import EVENTS, JSON, NOTHING, OCTETS, TEXT, Operation, Parameter
from router.anthropic.request import CountBody, MessagesBody
from router.openai.completions import CompletionsBody
from router.openai.embeddings import EmbeddingsBody
from router.openai.request import ChatBody

MODEL = (Parameter("model", "the default model, if it is left out"),)
ASKING = (
    Parameter("x-shoal-private", "it may not leave for a cloud", in_header=True),
    Parameter("x-shoal-priority", "`batch`: it may wait", in_header=True, values=("interactive", "batch")),
    Parameter("x-session-id", "whose conversation it is part of", in_header=True),
)
ANSWERED = (JSON, EVENTS)

MESSAGES = Operation("Answer a conversation, in Anthropic's protocol", MessagesBody, ANSWERED, parameters=ASKING)
COUNT = Operation("Count the tokens of a conversation", CountBody)
CHAT = Operation("Answer a conversation, in OpenAI's protocol", ChatBody, ANSWERED, parameters=ASKING)
COMPLETIONS = Operation("Go on from a text, in OpenAI's protocol", CompletionsBody, ANSWERED, parameters=ASKING)
EMBEDDINGS = Operation("Turn texts into vectors", EmbeddingsBody)
FEEDBACK = Operation("Say how good an answer was", FeedbackBody, status=ACCEPTED)
SESSION_SAVED = Operation("The KV of a conversation", gives=(OCTETS,), parameters=MODEL)
SESSION_LOADED = Operation("Take over the KV of a conversation", OCTETS, parameters=MODEL)
MODELS = Operation("List the models")
MODEL_SHOWN = Operation("One model")
ADAPTERS = Operation("The adapters of a model", parameters=MODEL)
ADAPTER_LOADED = Operation("Load an adapter", Wanted)
ADAPTER_UNLOADED = Operation("Unload an adapter", parameters=MODEL)
HELLO = Operation("The service is there", gives=(NOTHING,), is_open=True)
HEALTH = Operation("The process is up", is_open=True)
READY = Operation("Every model answers; 503 with the same body until then", is_open=True)
METRICS = Operation("Metrics for Prometheus", gives=(TEXT,))
STATUS = Operation("The state of every engine")
DOCUMENT = Operation("This document")
