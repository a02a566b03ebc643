"""Names of attributes that say what a span did, in every convention that is read: which of our words each means, and what its values mean.

A table is `name of attribute -> (word, rank)`: where a span has several for one word, that of the lowest rank holds.

Leaves out: how they are put together (`genai`).
Checked: tests/test_trace_otlp.py, with a span as each framework writes it.
Source: OpenTelemetry GenAI https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ and
https://github.com/open-telemetry/semantic-conventions-genai (attributes of both, and of MCP); OpenInference
https://arize-ai.github.io/openinference/spec/attributes/semantic-conventions.html; OpenLLMetry https://github.com/traceloop/openllmetry
(opentelemetry-semantic-conventions-ai); Vercel AI SDK https://ai-sdk.dev/docs/ai-sdk-core/telemetry; Langfuse
https://langfuse.com/integrations/native/opentelemetry; LangSmith https://docs.langchain.com/langsmith/trace-with-opentelemetry; Strands
https://github.com/strands-agents/sdk-python (telemetry/tracer.py); Google ADK https://github.com/google/adk-python (telemetry/tracing.py).
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..observation import Kind

__all__ = [
    "BY_NAME",
    "CALLED",
    "FIRST_TOKEN",
    "HUMAN",
    "IN",
    "KINDS",
    "OUT",
    "STAMP",
    "STAMPS",
    "by_class",
    "by_vercel",
    "role_of",
]

IN, OUT, STAMP = "<in>", "<out>", "<stamp>"
STAMPS = "coordsim."
"""What attributes of an export of coordsim begin with."""
"""Words of attributes that come many to a span: contents that went in, that came out, and stamps of an export."""

_NAMES: dict[str, tuple[str, ...]] = {
    "operation": ("gen_ai.operation.name",),
    "mcp": ("mcp.method.name",),
    "openinference": ("openinference.span.kind",),
    "langfuse": ("langfuse.observation.type",),
    "request": ("llm.request.type",),
    "langsmith": ("langsmith.span.kind",),
    "traceloop": ("traceloop.span.kind",),
    "mlflow": ("mlflow.spanType",),
    "class": ("haystack.component.type",),
    "vercel": ("ai.operationId", "operation.name"),
    "pending": ("logfire.span_type",),
    "provider": (
        "gen_ai.provider.name",
        "gen_ai.system",
        "llm.provider",
        "llm.system",
        "ai.model.provider",
        "llm.vendor",
    ),
    "asked": (  # what was asked for comes first: a call that failed has no other
        "gen_ai.request.model",
        "llm.request.model_name",
        "llm.request.model",
        "ai.model.id",
        "model",
    ),
    "model": (
        "gen_ai.response.model",
        "llm.response.model_name",
        "llm.response.model",
        "ai.response.model",
        "llm.model_name",
        "embedding.model_name",
        "reranker.model_name",
        "langfuse.observation.model.name",
        "mlflow.llm.model",
        "model_name",
    ),
    "parameters": ("llm.invocation_parameters", "embedding.invocation_parameters"),
    "tool": (
        "gen_ai.tool.name",
        "tool.name",
        "ai.toolCall.name",
        "tool_call.function.name",
        "mcp.tool.name",
        "haystack.tool.name",
    ),
    "agent": ("gen_ai.agent.name", "agent.name", "agent_name", "agent"),
    "workflow": ("gen_ai.workflow.name", "workflow.name", "traceloop.workflow.name"),
    "entity": (
        "traceloop.entity.name",
        "ai.telemetry.functionId",
        "semantic_kernel.function.name",
        "haystack.component.name",
    ),
    "source": ("gen_ai.data_source.id", "retriever.name", "db.collection.name", "db.namespace", "db.name"),
    "session": (
        "gen_ai.conversation.id",
        "session.id",
        "langfuse.session.id",
        "gen_ai.session.id",
        "conversation.id",
        "traceloop.association.properties.session_id",
        "traceloop.association.properties.thread_id",
        "langsmith.metadata.session_id",
        "langsmith.metadata.thread_id",
        "langsmith.trace.session_id",
        "ai.telemetry.metadata.sessionId",
        "gcp.vertex.agent.session_id",
        "langfuse.trace.session_id",
        "mlflow.trace.session",
    ),
    "input": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
        "llm.usage.input_tokens",
        "ai.usage.inputTokens",
        "ai.usage.promptTokens",
        "ai.usage.tokens",
        "gen_ai.usage.prompt",
        "usage.input_tokens",
    ),
    "cached": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cached_input_tokens",
        "gen_ai.usage.cached_tokens",
        "gen_ai.usage.cache_read_tokens",
        "gen_ai.usage.input_tokens.cached",
        "gen_ai.usage.prompt_tokens_cached",
        "gen_ai.openai.usage.prompt_tokens_cached",
        "gen_ai.usage.prompt_tokens_details.cached_tokens",
        "gen_ai.usage.input_tokens_details.cached_tokens",
        "gen_ai.usage.details.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "gen_ai.usage.details.cached_tokens",
        "gen_ai.usage.details.cached_content_tokens",
        "gen_ai.usage.input_token_details.cache_read",
        "llm.token_count.prompt_details.cache_read",
        "llm.usage.cache_read_input_tokens",
        "ai.usage.cachedInputTokens",
        "ai.usage.inputTokenDetails.cacheReadTokens",
        "usage.cache_read_input_tokens",
    ),
    "written": (
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
        "gen_ai.usage.cache_write_input_tokens",
        "gen_ai.usage.cache_creation_tokens",
        "gen_ai.usage.cache_write_tokens",
        "gen_ai.usage.details.cache_creation_input_tokens",
        "gen_ai.usage.details.cache_write_tokens",
        "gen_ai.usage.input_token_details.cache_creation",
        "llm.token_count.prompt_details.cache_write",
        "llm.usage.cache_creation_input_tokens",
        "ai.usage.cacheCreationInputTokens",
        "ai.usage.inputTokenDetails.cacheWriteTokens",
        "usage.cache_creation_input_tokens",
    ),
    "output": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
        "llm.usage.output_tokens",
        "ai.usage.outputTokens",
        "ai.usage.completionTokens",
        "gen_ai.usage.completion",
        "usage.output_tokens",
    ),
    "total": ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total", "ai.usage.totalTokens"),
    "usage": ("langfuse.observation.usage_details", "mlflow.chat.tokenUsage", "gen_ai.usage.raw"),
    "first_s": ("gen_ai.response.time_to_first_chunk",),
    "first_ms": ("ai.response.msToFirstChunk", "ai.stream.msToFirstChunk", "gen_ai.server.time_to_first_token_ms"),
    "first_any": ("gen_ai.server.time_to_first_token",),
    "first_at": ("langfuse.observation.completion_start_time",),
    "error": ("error.type", "exception.type"),
    "failed": ("haystack.tool.error",),
    "level": ("langfuse.observation.level",),
    "status": ("tool.status", "gen_ai.tool.status"),
    "http": ("http.response.status_code", "http.status_code"),
    "db": ("db.system.name", "db.system"),
    "peer": (
        "peer.service",
        "server.address",
        "rpc.service",
        "net.peer.name",
        "http.host",
        "rpc.system",
        "rpc.system.name",
        "network.peer.address",
    ),
    "message": ("messaging.system", "messaging.operation", "messaging.operation.type", "messaging.destination.name"),
    "remote": ("http.request.method", "http.method", "url.full", "http.url"),
}

_ROLES = {name: (word, rank) for word, names in _NAMES.items() for rank, name in enumerate(names)}

_CONTENTS: tuple[tuple[str, str, str], ...] = (
    # Where an attribute's name starts so, it is a content; the third is the family. Families say the same content in other
    # words, so that the largest counts; within one the parts are added.
    ("gen_ai.prompt", IN, "prompt"), ("gen_ai.completion", OUT, "completion"),
    ("gen_ai.input.messages", IN, "messages"), ("gen_ai.output.messages", OUT, "messages"),
    ("gen_ai.system_instructions", IN, "messages"), ("gen_ai.request.messages", IN, "request"),
    ("gen_ai.tool.call.arguments", IN, "tool"), ("gen_ai.tool.call.result", OUT, "tool"),
    ("gen_ai.retrieval.query", IN, "query"), ("gen_ai.retrieval.documents", OUT, "documents"),
    ("gen_ai.tool.message", IN, "tool message"),
    ("llm.input_messages.", IN, "llm"), ("llm.output_messages.", OUT, "llm"), ("llm.prompts", IN, "llm"),
    ("llm.choices", OUT, "llm"), ("input.value", IN, "value"), ("output.value", OUT, "value"),
    ("embedding.embeddings.", IN, "embedding"), ("embedding.text", IN, "embedding"),
    ("retrieval.documents", OUT, "documents"), ("reranker.query", IN, "query"),
    ("reranker.input_documents", IN, "documents"), ("reranker.output_documents", OUT, "documents"),
    ("tool.parameters", IN, "parameters"), ("tool_arguments", IN, "tool"), ("tool_response", OUT, "tool"),
    ("traceloop.entity.input", IN, "entity"), ("traceloop.entity.output", OUT, "entity"),
    ("ai.prompt", IN, "ai"), ("ai.toolCall.args", IN, "ai"), ("ai.toolCall.input", IN, "ai"),
    ("ai.toolCall.result", OUT, "ai"), ("ai.toolCall.output", OUT, "ai"), ("ai.value", IN, "ai"),
    ("ai.response.text", OUT, "ai"), ("ai.response.object", OUT, "ai"), ("ai.response.toolCalls", OUT, "ai"),
    ("langfuse.observation.input", IN, "langfuse"), ("langfuse.observation.output", OUT, "langfuse"),
    ("gcp.vertex.agent.llm_request", IN, "adk"), ("gcp.vertex.agent.tool_call_args", IN, "adk"),
    ("gcp.vertex.agent.llm_response", OUT, "adk"), ("gcp.vertex.agent.tool_response", OUT, "adk"),
    ("db.query.text", IN, "db"), ("db.statement", IN, "db"),
    ("mlflow.spanInputs", IN, "mlflow"), ("mlflow.spanOutputs", OUT, "mlflow"),
    ("haystack.component.input", IN, "haystack"), ("haystack.component.output", OUT, "haystack"),
    ("haystack.agent.step.llm.input", IN, "haystack"), ("haystack.agent.step.llm.output", OUT, "haystack"),
    ("haystack.agent.step.tool.input", IN, "haystack"), ("haystack.agent.step.tool.output", OUT, "haystack"),
    ("request_data", IN, "logfire"), ("response_data", OUT, "logfire"),
)  # fmt: skip
_NO_CONTENT = (".role", ".finish_reason", ".id", ".mime_type", ".name", ".vector", "_spec", "_types")


@lru_cache(maxsize=8192)
def role_of(attribute: str) -> tuple[str, int | str] | None:
    """What an attribute says: (word, rank), (IN or OUT, family), (STAMP, name without prefix), or None where it says nothing of use."""
    found = _ROLES.get(attribute)
    if found is not None:
        return found
    if attribute.startswith(STAMPS):
        return STAMP, attribute.removeprefix(STAMPS)
    for start, way, family in _CONTENTS:
        if attribute.startswith(start) and not attribute.endswith(_NO_CONTENT):
            return way, family
    return None


_OPERATIONS: dict[Kind, str] = {
    "llm": "chat text_completion generate_content chat_completions chat_completion completion completions text_completions"
    " text_generation chat_streaming chat_completions_streaming text_completions_streaming responses response message messages"
    " image_generation image speech transcription audio generate llm",
    "embedding": "embeddings embedding embed",
    "tool": "execute_tool tool tool_call function_call function execute_function",
    "retriever": "retrieval retrieve retriever vectordb vector_search search rerank reranker search_memory create_memory update_memory"
    " upsert_memory delete_memory memory db",
    "agent": "invoke_agent create_agent agent run_agent agent_run create_remote_agent",
    "workflow": "invoke_workflow workflow agent_workflow chain graph task framework plan",
    "human": "human human_input human_approval",
}
_OPENINFERENCE: dict[Kind, str] = {
    "llm": "llm",
    "embedding": "embedding",
    "workflow": "chain",
    "retriever": "retriever reranker",
    "tool": "tool",
    "agent": "agent",
    "client": "guardrail evaluator",
    "other": "prompt decision",
}
_LANGFUSE: dict[Kind, str] = {
    "llm": "generation",
    "embedding": "embedding",
    "tool": "tool",
    "retriever": "retriever",
    "agent": "agent",
    "workflow": "chain",
    "client": "evaluator guardrail",
    "other": "event",
}
_REQUESTS: dict[Kind, str] = {
    "llm": "chat completion text_completion",
    "embedding": "embedding embeddings",
    "retriever": "rerank",
}
_LANGSMITH: dict[Kind, str] = {
    "llm": "llm",
    "embedding": "embedding",
    "tool": "tool",
    "retriever": "retriever",
    "workflow": "chain",
    "agent": "agent",
    "other": "prompt parser",
}
_TRACELOOP: dict[Kind, str] = {"workflow": "workflow task", "agent": "agent", "tool": "tool"}
_MLFLOW: dict[Kind, str] = {
    "llm": "llm chat_model",
    "embedding": "embedding",
    "tool": "tool",
    "retriever": "retriever reranker memory",
    "agent": "agent",
    "workflow": "chain workflow task",
    "client": "guardrail evaluator",
    "other": "parser",
}
_MCP: dict[Kind, str] = {"tool": "tools/call", "human": "elicitation/create"}


def _by_value(words: dict[Kind, str]) -> dict[str, Kind]:
    return {word: kind for kind, many in words.items() for word in many.split()}


KINDS: tuple[tuple[str, dict[str, Kind]], ...] = (
    ("operation", _by_value(_OPERATIONS)),
    ("mcp", _by_value(_MCP)),
    ("openinference", _by_value(_OPENINFERENCE)),
    ("langfuse", _by_value(_LANGFUSE)),
    ("request", _by_value(_REQUESTS)),
    ("langsmith", _by_value(_LANGSMITH)),
    ("traceloop", _by_value(_TRACELOOP)),
    ("mlflow", _by_value(_MLFLOW)),
)
"""What the values of attributes that name a kind mean, the first that says one holds; values in lower case, `_` for `.`, `-` and blanks."""

_BY_NAME: tuple[tuple[str, Kind], ...] = (
    (r"(?:chat|text_completion|generate_content|chat\.completions|text\.completions)\s+(?P<of>\S.*)", "llm"),
    (r"(?:embeddings?)\s+(?P<of>\S.*)", "embedding"),
    (r"(?:execute_tool|tools/call|running tool:?)\s+(?P<of>\S.*)", "tool"),
    (r"(?:invoke_agent|create_agent|agent_run|agent run)\s+\[?(?P<of>[^\]]*[^\]\s])\]?", "agent"),
    (r"(?:invoke_workflow)\s+(?P<of>\S.*)", "workflow"),
    (r"(?:retrieval|retrieve|rerank|search_memory)\s+(?P<of>\S.*)", "retriever"),
    (r"call_llm|chat|completion|text_completion|generate_content|ChatCompletion|.+\.(?:chat|completion)", "llm"),
    (r"(?:.+\.)?(?:completions|responses|messages)\.(?:create|stream|parse)|.+\.generate_content(?:_stream)?", "llm"),
    (r"embeddings?|.+\.embeddings?|(?:.+\.)?embeddings\.create", "embedding"),
    (r"haystack\.agent\.step\.llm", "llm"),
    (r"haystack\.agent\.step\.tool", "tool"),
    (r"haystack\.(?:(?:async_)?pipeline\.run|agent\.run|agent\.step)", "workflow"),
    (r"(?P<of>.+)\.tool|running tool|execute_tool|ai\.toolCall", "tool"),
    (r"(?P<of>.+)\.agent|agent run|invoke_agent|agent_run", "agent"),
    (r"(?P<of>.+)\.(?:workflow|task)|invocation|running \d+ tools?|execute_event_loop_cycle", "workflow"),
    (r"(?P<of>.+)\.(?:retriever|retrieve|rerank)", "retriever"),
)
BY_NAME = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in _BY_NAME)
"""Kinds by a span's whole name, as conventions spell it, and in `of` what it is of."""

CLASSES: tuple[tuple[str, Kind], ...] = (
    ("Generator", "llm"),
    ("Embedder", "embedding"),
    ("Retriever", "retriever"),
    ("Ranker", "retriever"),
    ("WebSearch", "retriever"),
    ("Agent", "agent"),
)
"""Kinds by the end of the name of a component's class."""

CALLED: dict[Kind, tuple[str, ...]] = {
    "llm": ("model", "entity"),
    "embedding": ("model", "entity"),
    "tool": ("tool", "entity"),
    "retriever": ("tool", "source", "db", "model", "entity"),
    "agent": ("agent", "entity"),
    "workflow": ("workflow", "entity"),
    "human": ("tool",),
    "client": ("tool", "mcp", "peer"),
}
"""Words that name the component, by kind, in order."""

HUMAN = re.compile(
    r"(?:(?:ask|wait_?for|await|notify_?and_?wait|request)_?(?:the_?)?(?:human|user)s?(?:_?\w*)?"
    r"|(?:human|user)_?(?:input|approval|feedback|review|confirmation|response|in_the_loop)|get_(?:human|user)_input)",
    re.IGNORECASE,
)
"""Names of tools behind which a person answers."""

FIRST_TOKEN = frozenset(
    {
        "ai.stream.firstChunk",
        "First Token Stream Event",
        "llm.content.completion.chunk",
        "gen_ai.content.completion.chunk",
        "new_token",
        "first_token",
        "first_chunk",
    }
)
"""Names of events that come with the first piece of an answer."""


def by_class(name: str) -> Kind | None:
    """What a component is by the end of its class's name, as `OpenAIChatGenerator`."""
    return next((kind for end, kind in CLASSES if name.endswith(end)), None)


def by_vercel(operation: str) -> Kind:
    """An operation of the AI SDK: the calls inside are named do..., what is around them is a loop of steps."""
    operation = operation.split(" ", 1)[0]
    if operation.endswith((".doGenerate", ".doStream")):
        return "llm"
    if operation.endswith(".doEmbed"):
        return "embedding"
    if operation.endswith((".toolCall", ".executeTool")):
        return "tool"
    if operation.endswith((".doRerank", ".rerank")):
        return "retriever"
    return "workflow" if operation.startswith("ai.embed") else "agent"
