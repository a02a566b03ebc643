"""Spans as frameworks write them, and what each is: name of the case, name of the span, attributes, other fields, what is expected.

Source: the sources of `sim.trace.formats.genai_names`. Contents are made up.
"""

from __future__ import annotations

from typing import Any

from .otlp_files import START, keyed

__all__ = ["CASES"]

Case = tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]
CLIENT = {"kind": 3}
FAILED = {"status": {"code": 2, "message": "it went wrong"}}
LATER = START + 2_400_000_000
"""Of a span that begins at START + 2 s: 0.4 s later."""


def event(name: str, attributes: dict[str, Any] | None = None, at: int = LATER) -> dict[str, Any]:
    """An event of a span."""
    return {"name": name, "timeUnixNano": str(at), "attributes": keyed(attributes or {})}


OTEL: list[Case] = [
    (
        "chat, new names", "chat gpt-4o",
        {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
            "gen_ai.response.model": "gpt-4o-2024-08-06", "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 60, "gen_ai.usage.cache_creation.input_tokens": 10,
            "gen_ai.response.time_to_first_chunk": 0.4, "gen_ai.conversation.id": "c7", "server.address": "api.openai.com",
            "gen_ai.input.messages": "x" * 40, "gen_ai.output.messages": "y" * 9, "gen_ai.response.finish_reasons": ["stop"],
        },
        CLIENT,
        {
            "kind": "llm", "component": "gpt-4o", "input_tokens": 100.0, "cached_tokens": 60.0, "output_tokens": 20.0,
            "first_token": LATER, "session": "c7", "input_bytes": 40.0, "output_bytes": 9.0,
        },
    ),
    (
        "chat, old names", "chat gpt-4",
        {
            "gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-4",
            "gen_ai.usage.prompt_tokens": 7, "gen_ai.usage.completion_tokens": 3,
        },
        {**CLIENT, "events": [event("gen_ai.user.message", {"content": "hello"}), event("gen_ai.choice", {"message": {"content": "you"}, "index": 0})]},
        {"kind": "llm", "component": "gpt-4", "input_tokens": 7.0, "output_tokens": 3.0, "input_bytes": 5.0, "output_bytes": 11.0},
    ),
    ("text completion", "text_completion x", {"gen_ai.operation.name": "text_completion"}, {}, {"kind": "llm", "component": "x"}),
    ("generate content", "generate_content g", {"gen_ai.operation.name": "generate_content"}, {}, {"kind": "llm", "component": "g"}),
    (
        "embeddings", "embeddings e-3",
        {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "e-3", "gen_ai.usage.input_tokens": 12}, {},
        {"kind": "embedding", "component": "e-3", "input_tokens": 12.0},
    ),
    (
        "retrieval", "retrieval kb", {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "kb"}, {},
        {"kind": "retriever", "component": "kb"},
    ),
    (
        "execute_tool, failed", "execute_tool search",
        {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search", "error.type": "TimeoutError",
         "gen_ai.tool.call.arguments": {"q": "abc"}, "gen_ai.tool.call.result": "four"},
        FAILED, {"kind": "tool", "component": "search", "error": "TimeoutError", "input_bytes": 4.0, "output_bytes": 4.0},
    ),
    (
        "create_agent", "create_agent planner", {"gen_ai.operation.name": "create_agent", "gen_ai.agent.name": "planner"}, CLIENT,
        {"kind": "agent", "component": "planner", "agent": "planner"},
    ),
    (
        "invoke_agent", "invoke_agent Math Tutor",
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "Math Tutor", "gen_ai.usage.input_tokens": 900}, {},
        {"kind": "agent", "component": "Math Tutor", "agent": "Math Tutor", "input_tokens": None},
    ),
    (
        "invoke_workflow", "invoke_workflow w", {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "w"}, {},
        {"kind": "workflow", "component": "w"},
    ),
    (
        "MCP tools/call", "tools/call get-weather", {"mcp.method.name": "tools/call", "gen_ai.tool.name": "get-weather"}, CLIENT,
        {"kind": "tool", "component": "get-weather"},
    ),
    (
        "MCP tool that failed", "tools/call add",
        {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "add", "error.type": "tool_error"},
        {"kind": 2}, {"kind": "tool", "component": "add", "error": "tool_error"},
    ),
    ("MCP initialize", "initialize", {"mcp.method.name": "initialize"}, CLIENT, {"kind": "client", "component": "initialize"}),
    ("MCP asks the user", "elicitation/create", {"mcp.method.name": "elicitation/create"}, CLIENT, {"kind": "human"}),
    (
        "an exception", "chat m", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        {**FAILED, "events": [event("exception", {"exception.type": "openai.RateLimitError", "exception.message": "slow down"})]},
        {"kind": "llm", "error": "openai.RateLimitError"},
    ),
    (
        "an exception outlived", "chat m", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"},
        {"events": [event("exception", {"exception.type": "ValueError"})]}, {"kind": "llm", "error": ""},
    ),
    (
        "HTTP client", "POST", {"http.request.method": "POST", "server.address": "api.example.com", "http.response.status_code": 503},
        CLIENT, {"kind": "client", "component": "api.example.com", "error": "503"},
    ),
    ("RPC client", "Svc/Get", {"rpc.system": "grpc", "rpc.service": "Svc"}, CLIENT, {"kind": "client", "component": "Svc"}),
    ("HTTP server", "POST /run", {"http.request.method": "POST", "server.address": "me"}, {"kind": 2}, {"kind": "other", "component": ""}),
    ("messages", "publish q", {"messaging.system": "kafka", "messaging.destination.name": "q"}, {"kind": 4}, {"kind": "other", "component": ""}),
    (
        "database", "SELECT items", {"db.system": "postgresql", "db.name": "shop", "db.statement": "select 1"}, CLIENT,
        {"kind": "retriever", "component": "shop", "input_bytes": 8.0},
    ),
    ("name only: chat", "chat gpt-4o", {}, {}, {"kind": "llm", "component": "gpt-4o"}),
    ("name only: tool", "execute_tool grep", {}, {}, {"kind": "tool", "component": "grep"}),
    ("a person", "execute_tool ask_user", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "ask_user"}, {}, {"kind": "human"}),
    (
        "Anthropic's counts apart", "chat claude",
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "claude", "gen_ai.usage.input_tokens": 5,
         "gen_ai.usage.cache_read_input_tokens": 1000, "gen_ai.usage.cache_creation_input_tokens": 200},
        {}, {"kind": "llm", "input_tokens": 1205.0, "cached_tokens": 1000.0},
    ),
]  # fmt: skip

FRAMEWORKS: list[Case] = [
    (
        "OpenInference, LangChain's model", "ChatOpenAI",
        {
            "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-mini", "llm.token_count.prompt": 30,
            "llm.token_count.completion": 4, "llm.token_count.total": 34, "llm.token_count.prompt_details.cache_read": 10,
            "input.value": "abcdef", "output.value": "xyz", "llm.input_messages.0.message.content": "abcd",
            "llm.input_messages.0.message.role": "user", "session.id": "s1", "metadata": "{}",
        },
        {"events": [event("First Token Stream Event")]},
        {"kind": "llm", "component": "gpt-4o-mini", "input_tokens": 30.0, "cached_tokens": 10.0, "output_tokens": 4.0,
         "session": "s1", "input_bytes": 6.0, "output_bytes": 3.0, "first_token": LATER},
    ),
    (
        "OpenInference, model in parameters", "LLM", {"openinference.span.kind": "LLM", "llm.invocation_parameters": '{"model": "m-1"}'},
        {}, {"kind": "llm", "component": "m-1"},
    ),
    (
        "OpenInference, embedding", "Embed", {"openinference.span.kind": "EMBEDDING", "embedding.model_name": "ada", "llm.token_count.total": 9},
        {}, {"kind": "embedding", "component": "ada", "input_tokens": 9.0},
    ),
    ("OpenInference, chain", "LangGraph", {"openinference.span.kind": "CHAIN"}, {}, {"kind": "workflow", "component": "LangGraph"}),
    ("OpenInference, retriever", "Vector", {"openinference.span.kind": "RETRIEVER"}, {}, {"kind": "retriever", "component": "Vector"}),
    ("OpenInference, reranker", "R", {"openinference.span.kind": "RERANKER", "reranker.model_name": "r"}, {}, {"kind": "retriever"}),
    (
        "OpenInference, tool", "tool", {"openinference.span.kind": "TOOL", "tool.name": "calc", "tool.parameters": '{"a": 1}'}, {},
        {"kind": "tool", "component": "calc", "input_bytes": 8.0},
    ),
    ("OpenInference, agent", "crew", {"openinference.span.kind": "AGENT", "agent.name": "writer"}, {}, {"kind": "agent", "agent": "writer"}),
    ("OpenInference, guardrail", "g", {"openinference.span.kind": "GUARDRAIL"}, {}, {"kind": "client", "component": ""}),
    ("OpenInference, evaluator", "e", {"openinference.span.kind": "EVALUATOR"}, {}, {"kind": "client"}),
    ("OpenInference, prompt", "p", {"openinference.span.kind": "PROMPT"}, {}, {"kind": "other"}),
    (
        "OpenLLMetry, model", "openai.chat",
        {
            "llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-4", "llm.usage.total_tokens": 15,
            "gen_ai.usage.prompt_tokens": 10, "gen_ai.usage.completion_tokens": 5, "gen_ai.usage.cache_read_input_tokens": 4,
            "gen_ai.prompt.0.content": "hello", "gen_ai.prompt.0.role": "user", "gen_ai.completion.0.content": "hi",
            "traceloop.workflow.name": "joke", "traceloop.association.properties.session_id": "s2",
        },
        {**CLIENT, "events": [event("llm.content.completion.chunk"), event("llm.content.completion.chunk", at=LATER + 5)]},
        {"kind": "llm", "component": "gpt-4", "input_tokens": 10.0, "cached_tokens": 4.0, "output_tokens": 5.0, "session": "s2",
         "input_bytes": 5.0, "output_bytes": 2.0, "first_token": LATER},
    ),
    (
        "OpenLLMetry, tool", "weather.tool", {"traceloop.span.kind": "tool", "traceloop.entity.name": "weather", "traceloop.entity.input": "{}"},
        {}, {"kind": "tool", "component": "weather", "input_bytes": 2.0},
    ),
    ("OpenLLMetry, agent", "a.agent", {"traceloop.span.kind": "agent", "traceloop.entity.name": "a"}, {}, {"kind": "agent", "agent": "a"}),
    ("OpenLLMetry, task", "t.task", {"traceloop.span.kind": "task", "traceloop.entity.name": "t"}, {}, {"kind": "workflow", "component": "t"}),
    (
        "Vercel, the call", "ai.streamText.doStream",
        {
            "operation.name": "ai.streamText.doStream chat-ui", "ai.operationId": "ai.streamText.doStream", "ai.model.id": "gpt-4o",
            "ai.model.provider": "openai.chat", "ai.usage.promptTokens": 11, "ai.usage.completionTokens": 6, "ai.usage.cachedInputTokens": 2,
            "ai.response.msToFirstChunk": 400.0, "ai.prompt.messages": "1234567", "ai.response.text": "abc", "ai.response.toolCalls": "[]",
        },
        {"events": [event("ai.stream.firstChunk", at=LATER + 9)]},
        {"kind": "llm", "component": "gpt-4o", "input_tokens": 11.0, "output_tokens": 6.0, "cached_tokens": 2.0, "first_token": LATER,
         "input_bytes": 7.0, "output_bytes": 5.0},
    ),
    (
        "Vercel, around it", "ai.streamText", {"ai.operationId": "ai.streamText", "ai.telemetry.functionId": "ui", "ai.usage.promptTokens": 11},
        {}, {"kind": "agent", "component": "ui", "input_tokens": None},
    ),
    ("Vercel, tool", "ai.toolCall", {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "w", "ai.toolCall.args": "{}"}, {}, {"kind": "tool", "component": "w"}),
    ("Vercel, embedding", "ai.embed.doEmbed", {"ai.operationId": "ai.embed.doEmbed", "ai.model.id": "e", "ai.usage.tokens": 3}, {}, {"kind": "embedding", "input_tokens": 3.0}),
    (
        "Langfuse, generation", "answer",
        {
            "langfuse.observation.type": "generation", "langfuse.observation.model.name": "claude", "langfuse.session.id": "s3",
            "langfuse.observation.usage_details": '{"input": 50, "output": 8, "cache_read_input_tokens": 20}',
            "langfuse.observation.completion_start_time": '"2023-11-14T22:13:22.400Z"', "langfuse.observation.input": "xx",
            "langfuse.observation.level": "ERROR",
        },
        {}, {"kind": "llm", "component": "claude", "input_tokens": 50.0, "cached_tokens": 20.0, "output_tokens": 8.0, "session": "s3",
             "first_token": LATER, "input_bytes": 2.0, "error": "error"},
    ),
    ("Langfuse, tool", "lookup", {"langfuse.observation.type": "tool"}, {}, {"kind": "tool", "component": "lookup"}),
    ("Langfuse, plain span", "step", {"langfuse.observation.type": "span"}, {}, {"kind": "other"}),
    (
        "LangSmith", "ChatAnthropic", {"langsmith.span.kind": "llm", "gen_ai.request.model": "c", "langsmith.metadata.session_id": "s4"}, {},
        {"kind": "llm", "component": "c", "session": "s4"},
    ),
    ("LangSmith, chain", "graph", {"langsmith.span.kind": "chain"}, {}, {"kind": "workflow"}),
    (
        "pydantic-ai, agent", "agent run", {"gen_ai.agent.name": "support", "agent_name": "support", "model_name": "gpt-4o", "logfire.msg": "support run",
                                           "gen_ai.usage.input_tokens": 40}, {}, {"kind": "agent", "component": "support", "input_tokens": None},
    ),
    (
        "pydantic-ai, tool", "running tool", {"gen_ai.tool.name": "roll_dice", "tool_arguments": "{}", "tool_response": "4"}, {},
        {"kind": "tool", "component": "roll_dice", "input_bytes": 2.0, "output_bytes": 1.0},
    ),
    (
        "pydantic-ai, cached tokens", "chat claude", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "claude", "gen_ai.usage.input_tokens": 90,
                                                      "gen_ai.usage.details.cache_read_input_tokens": 70}, {}, {"input_tokens": 90.0, "cached_tokens": 70.0},
    ),
    (
        "Semantic Kernel", "chat.completions gpt-4o", {"gen_ai.operation.name": "chat.completions", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o"},
        CLIENT, {"kind": "llm", "component": "gpt-4o"},
    ),
    ("AutoGen", "execute_tool t", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t", "gen_ai.system": "autogen"}, {}, {"kind": "tool"}),
    (
        "Google ADK, model", "call_llm",
        {"gen_ai.system": "gcp.vertex.agent", "gen_ai.request.model": "gemini-2.0", "gcp.vertex.agent.llm_request": "{}",
         "gcp.vertex.agent.llm_response": "[1]", "gcp.vertex.agent.session_id": "s5"},
        {}, {"kind": "llm", "component": "gemini-2.0", "session": "s5", "input_bytes": 2.0, "output_bytes": 3.0},
    ),
    ("Google ADK, agent", "agent_run [root_agent]", {}, {}, {"kind": "agent", "component": "root_agent"}),
    ("Google ADK, invocation", "invocation", {}, {}, {"kind": "workflow", "component": "invocation"}),
    (
        "Strands, model", "chat",
        {"gen_ai.operation.name": "chat", "gen_ai.system": "strands-agents", "gen_ai.request.model": "claude-4", "gen_ai.usage.input_tokens": 20,
         "gen_ai.usage.output_tokens": 2, "gen_ai.server.time_to_first_token": 400, "gen_ai.agent.name": "Strands Agents"},
        CLIENT, {"kind": "llm", "component": "claude-4", "first_token": LATER, "agent": "Strands Agents"},
    ),
    (
        "Strands, tool", "execute_tool calc", {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "calc", "tool.status": "error"}, {},
        {"kind": "tool", "error": "tool_error"},
    ),
    ("Strands, turn", "execute_event_loop_cycle", {"event_loop.cycle_id": "1"}, {}, {"kind": "workflow"}),
    (
        "Agno, model", "OpenAIChat.invoke",
        {"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.provider": "OpenAI", "llm.token_count.prompt": 200,
         "llm.token_count.completion": 20, "llm.token_count.prompt_details.cache_read": 90, "llm.invocation_parameters": "{}"},
        {}, {"kind": "llm", "component": "m", "input_tokens": 200.0, "cached_tokens": 90.0, "output_tokens": 20.0},
    ),
    ("CrewAI, agent", "meteo._execute_core", {"openinference.span.kind": "AGENT", "graph.node.id": "meteo"}, {}, {"kind": "agent", "component": "meteo"}),
    ("smolagents, agent", "meteo.run", {"openinference.span.kind": "AGENT", "smolagents.max_steps": 3}, {}, {"kind": "agent", "agent": "meteo"}),
    ("DSPy, tool", "weather.__call__", {"openinference.span.kind": "TOOL", "input.value": "{}"}, {}, {"kind": "tool", "component": "weather"}),
    (
        "LangChain, the model that was asked", "ChatOpenAI",
        {"openinference.span.kind": "LLM", "llm.model_name": "m-2024", "llm.invocation_parameters": '{"model": "m", "model_name": "m", "stream": false}'},
        {}, {"kind": "llm", "component": "m"},
    ),
    (
        "LlamaIndex, a stream that goes on", "OpenAILike.astream_chat", {"openinference.span.kind": "LLM", "llm.model_name": "m"},
        {"endTimeUnixNano": str(LATER - 100_000_000), "events": [event("First Token Stream Event")]},
        {"kind": "llm", "first_token": LATER, "end": LATER},
    ),
    ("LlamaIndex, before a call", "OpenAILike._prepare_chat_with_tools", {"openinference.span.kind": "LLM", "llm.model_name": "m"}, {}, {"kind": "other"}),
    (
        "Logfire, usage as it came", "Chat Completion with {request_data[model]!r}",
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 200, "gen_ai.usage.output_tokens": 20,
         "gen_ai.usage.raw": '{"prompt_tokens": 200, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 90}}'},
        CLIENT, {"kind": "llm", "component": "m", "input_tokens": 200.0, "cached_tokens": 90.0, "output_tokens": 20.0},
    ),
    (
        "MLflow, model", "Completions",
        {"mlflow.spanType": '"CHAT_MODEL"', "model": '"m"', "mlflow.llm.model": '"m-2024"', "mlflow.spanInputs": '{"a": 1}', "mlflow.spanOutputs": "{}",
         "mlflow.chat.tokenUsage": '{"input_tokens": 200, "output_tokens": 20, "total_tokens": 220, "cache_read_input_tokens": 90}'},
        {}, {"kind": "llm", "component": "m", "input_tokens": 200.0, "cached_tokens": 90.0, "output_tokens": 20.0, "input_bytes": 8.0, "output_bytes": 2.0},
    ),
    ("MLflow, tool", "weather", {"mlflow.spanType": '"TOOL"', "mlflow.spanFunctionName": '"weather"'}, {}, {"kind": "tool", "component": "weather"}),
    ("MLflow, agent", "meteo", {"mlflow.spanType": '"AGENT"'}, {}, {"kind": "agent", "agent": "meteo"}),
    ("MLflow, unknown", "step", {"mlflow.spanType": '"UNKNOWN"'}, {}, {"kind": "other"}),
    (
        "Haystack, a generator", "haystack.component.run",
        {"haystack.component.name": "llm", "haystack.component.type": "OpenAIChatGenerator", "haystack.component.input": "{}", "haystack.component.input_types": "x",
         "haystack.component.output": "abc", "haystack.component.output_spec": "y"},
        {}, {"kind": "llm", "component": "llm", "input_bytes": 2.0, "output_bytes": 3.0},
    ),
    (
        "Haystack, an agent", "haystack.component.run", {"haystack.component.name": "meteo", "haystack.component.type": "Agent"}, {},
        {"kind": "agent", "agent": "meteo"},
    ),
    ("Haystack, the agent's model", "haystack.agent.step.llm", {"haystack.agent.step.llm.input": "abcd"}, {}, {"kind": "llm", "input_bytes": 4.0}),
    (
        "Haystack, a tool that failed", "haystack.agent.step.tool", {"haystack.tool.name": "flaky", "haystack.tool.error": True}, {},
        {"kind": "tool", "component": "flaky", "error": "tool_error"},
    ),
    ("AutoGen, a message", "autogen create q", {"messaging.operation": "create", "messaging.destination": "q"}, {"kind": 4}, {"kind": "other"}),
    (
        "Strands, before 1.0", "Model invoke",
        {"gen_ai.operation.name": "chat", "gen_ai.system": "strands-agents", "gen_ai.request.model": "m", "gen_ai.usage.prompt_tokens": 100,
         "gen_ai.usage.input_tokens": 100, "gen_ai.usage.completion_tokens": 10, "gen_ai.usage.output_tokens": 10, "gen_ai.usage.total_tokens": 110},
        CLIENT, {"kind": "llm", "component": "m", "input_tokens": 100.0, "output_tokens": 10.0},
    ),
    ("an own span", "prepare", {"my.attribute": 1}, {}, {"kind": "other", "component": "", "name": "prepare"}),
]  # fmt: skip

CASES: list[Case] = [*OTEL, *FRAMEWORKS]
