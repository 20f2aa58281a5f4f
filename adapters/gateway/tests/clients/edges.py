"""What clients send at the edges of the interface, and what comes of it: a value that means something acts or is refused by name, whatever
else is taken, and every error is of the class that its client has for it."""

import asyncio
import base64
import json
import socket

import httpx
import litellm
import openai
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from harness import BASE, CALLER, KEY, MODEL, ROOT, SAID, chat, check, client, once, raw, refused

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Place(BaseModel):
    city: str


def add():
    """Imported for its checks."""


def function(name):
    return {"type": "function", "function": {"name": name, "description": "Says it.", "parameters": CITY}}


def asked(**more):
    return {"model": CALLER, "messages": [{"role": "user", "content": "How is it in Ulm?"}], **more}


def create(**more):
    return lambda: once.chat.completions.create(**chat(**more))


# --- tools, in all ways


@check
def several_tools_are_called_at_once_and_each_result_is_read():
    tools = [function("weather"), function("traffic")]
    answer = client.chat.completions.create(**asked(tools=tools)).choices[0].message
    assert [(call.id, call.function.name) for call in answer.tool_calls] == [("call_1", "weather"), ("call_2", "traffic")]
    results = [{"role": "tool", "tool_call_id": call.id, "content": call.function.name} for call in answer.tool_calls]
    said = [*asked()["messages"], answer, *results]
    for stream in (False, True):
        told = client.chat.completions.create(model=CALLER, messages=said, tools=tools, stream=stream)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in told) if stream else told.choices[0].message.content
        assert text == "The tool says: weather and traffic", text
    one = client.chat.completions.create(**asked(tools=tools, parallel_tool_calls=False)).choices[0].message
    assert [call.function.name for call in one.tool_calls] == ["weather"]


@check
def calls_are_streamed_with_index_and_id():
    chunks = list(client.chat.completions.create(**asked(tools=[function("weather"), function("traffic")], stream=True)))
    calls = {}
    for delta in (chunk.choices[0].delta for chunk in chunks):
        for call in delta.tool_calls or []:
            known = calls.setdefault(call.index, {"id": call.id, "type": call.type, "name": call.function.name, "arguments": ""})
            known["arguments"] += call.function.arguments or ""
            assert call.id in (None, known["id"])
    assert [calls[n]["name"] for n in (0, 1)] == ["weather", "traffic"] and all(call["type"] == "function" for call in calls.values())
    assert [json.loads(call["arguments"]) for call in calls.values()] == [{"city": "Ulm"}] * 2
    assert len({call["id"] for call in calls.values()}) == 2 and chunks[-1].choices[0].finish_reason == "tool_calls"


@check
def the_choice_of_a_tool_is_passed_on_or_drops_the_tools():
    for choice in ("auto", "required", {"type": "function", "function": {"name": "weather"}}):
        answer = client.chat.completions.create(**asked(tools=[function("weather")], tool_choice=choice))
        assert answer.choices[0].finish_reason == "tool_calls", choice
    told = client.chat.completions.with_raw_response.create(**chat(tools=[function("weather")], tool_choice="none"))
    assert "tools" in told.headers["x-haggle-ignored"] and told.parse().choices[0].message.tool_calls is None
    assert create(tools=[], tool_choice="auto")().choices[0].message.content
    refused(openai.BadRequestError, create(tools=[function("weather")]), code="unsupported_parameter", param="tools")


@check
def a_response_streams_its_calls():
    tools = [{"type": "function", "name": name, "parameters": CITY, "strict": True} for name in ("weather", "traffic")]
    with client.responses.stream(model=CALLER, input="How is it in Ulm?", tools=tools) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    assert [item.name for item in answer.output] == ["weather", "traffic"]
    assert [json.loads(item.arguments) for item in answer.output] == [{"city": "Ulm"}] * 2
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [event.output_index for event in done] == [0, 1] and len({event.item_id for event in done}) == 2
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = [{"role": "user", "content": "How is it in Ulm?"}, *(item.model_dump(exclude_none=True) for item in answer.output)]
    said += [{"type": "function_call_output", "call_id": item.call_id, "output": item.name} for item in answer.output]
    assert client.responses.create(model=CALLER, input=said, tools=tools).output_text == "The tool says: weather and traffic"


# --- formats, images, thoughts


@check
def an_answer_is_parsed_into_what_was_asked_for():
    parsed = client.chat.completions.parse(model=CALLER, messages=SAID, response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city="Ulm")
    assert client.responses.parse(model=CALLER, input="Where?", text_format=Place).output_parsed == Place(city="Ulm")
    with client.chat.completions.stream(model=CALLER, messages=SAID, response_format=Place) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Place(city="Ulm")
    loose = client.chat.completions.create(**asked(response_format={"type": "json_object"}))
    assert json.loads(loose.choices[0].message.content) == {"city": "Ulm"}
    refused(openai.BadRequestError, create(response_format={"type": "json_object"}), code="unsupported_parameter",
            param="response_format")
    for wrong in ({"type": "xml"}, {}, {"type": None}, "json"):
        status, _, text = raw("POST", "/v1/chat/completions", chat(model=CALLER, response_format=wrong))
        assert status == 400 and json.loads(text)["error"]["param"].startswith("response_format"), (wrong, text)


def shown(url):
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]}]


@check
def images_come_in_the_request_and_sound_is_refused_by_name():
    answer = client.chat.completions.create(model=CALLER, messages=shown(PIXEL))
    assert answer.choices[0].message.content == "1 of data:image/png"
    seen = [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, {"type": "input_image", "image_url": PIXEL}]}]
    assert client.responses.create(model=CALLER, input=seen).output_text == "1 of data:image/png"
    where = "messages[0].content[1]"
    for messages, param in ((shown("https://example.org/a.png"), f"{where}.image_url"), (shown("file:///etc/passwd"), f"{where}.image_url")):
        refused(openai.BadRequestError, lambda: once.chat.completions.create(model=CALLER, messages=messages),
                code="unsupported_value", param=param)
    refused(openai.BadRequestError, lambda: once.chat.completions.create(model=MODEL, messages=shown(PIXEL)),
            code="unsupported_parameter", param=f"{where}.type")
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    file = {"type": "file", "file": {"file_id": "file-1"}}
    for part, code in ((sound, "unsupported_parameter"), (file, "unsupported_value")):
        said = [{"role": "user", "content": [{"type": "text", "text": "a"}, part]}]
        refused(openai.BadRequestError, lambda: once.chat.completions.create(model=CALLER, messages=said), code=code)
    refused(openai.BadRequestError, create(modalities=["text", "audio"], audio={"voice": "alloy", "format": "wav"}),
            code="unsupported_parameter")


@check
def thoughts_are_told_beside_the_answer():
    answer = client.chat.completions.create(**asked(reasoning_effort="low"))
    assert answer.choices[0].message.model_extra["reasoning_content"] == "Let me see. "
    assert answer.choices[0].message.content == "Nothing was asked." and answer.usage.completion_tokens_details.reasoning_tokens == 2
    events = list(client.responses.create(model=CALLER, input="Why?", reasoning={"effort": "low"}, stream=True))
    thought = "".join(event.delta for event in events if event.type == "response.reasoning_text.delta")
    final = events[-1].response
    assert thought == "Let me see. " and final.output_text == "Nothing was asked." and final.output[0].type == "reasoning"
    assert final.usage.output_tokens_details.reasoning_tokens == 2
    refused(openai.BadRequestError, create(reasoning_effort="high"), code="unsupported_parameter", param="reasoning_effort")
    assert create(reasoning_effort="none")().choices[0].message.content


# --- values at their edges


@check
def values_at_the_edge_are_taken_and_beyond_it_refused_by_name():
    for fits in (
        {"temperature": 0}, {"temperature": 2}, {"temperature": None}, {"top_p": 1}, {"top_p": 0}, {"seed": 0}, {"seed": -1}, {"seed": 2**63 - 1},
        {"max_completion_tokens": 1}, {"stop": None}, {"stop": []}, {"stop": "zzz"}, {"stop": ["a" * 64] * 4}, {"n": 1}, {"n": None},
        {"logprobs": False}, {"logprobs": None}, {"top_logprobs": None}, {"logit_bias": {}}, {"logit_bias": None}, {"presence_penalty": 0.0},
        {"tools": None, "tool_choice": None}, {"response_format": None}, {"stream": None}, {"stream": False, "stream_options": None},
        {"user": "me", "metadata": {"a": "b"}, "store": True}, {"service_tier": "auto"}, {"parallel_tool_calls": True},
        {"prediction": {"type": "content", "content": "a"}}, {"frequency_penalty": None}, {"modalities": ["text"]},
    ):
        assert create(**fits)().choices[0].message.content is not None, fits
    for name, values in {
        "temperature": (2.001, -0.1, "warm", True), "top_p": (1.1, -1, []), "max_tokens": (0, -1, 1.5, "9", 2**40),
        "max_completion_tokens": (0, "a"), "seed": (0.5, "a", 2**65), "stop": (["a"] * 5, 7, [""], "a" * 65, [None]), "stream": ("yes", 1),
        "stream_options": ("usage", {"include_usage": "yes"}), "n": (2, 0, "two"), "logprobs": (True,), "top_logprobs": (3,),
        "frequency_penalty": (2,), "presence_penalty": (-2,), "logit_bias": ({"50256": -100},), "model": (7, "", "a" * 200),
        "messages": ("hi", {}, [], [7], [{"role": "user"}], [{"role": "king", "content": "a"}], [{"content": "a"}],
                     [{"role": "user", "content": 7}], [{"role": "user", "content": [{"type": "text"}]}],
                     [{"role": "function", "name": "f", "content": "a"}], [{"role": "tool", "content": "a"}]),
    }.items():
        for value in values:
            status, headers, text = raw("POST", "/v1/chat/completions", chat(**{name: value}))
            error = json.loads(text)["error"]
            assert status == 400 and (error["param"] or "").startswith(name), (name, value, text)
            assert error["type"] == "invalid_request_error" and error["code"] and headers["x-request-id"]


@check
def stop_texts_end_an_answer_before_them():
    greedy = create(max_tokens=1000, temperature=0)().choices[0].message.content
    words = greedy.split()
    for stop in ([words[5]], [words[9], words[5]], words[5]):
        until = min(greedy.find(one) for one in ([stop] if isinstance(stop, str) else stop))
        cut = create(max_tokens=1000, temperature=0, stop=stop)().choices[0]
        assert (cut.message.content, cut.finish_reason) == (greedy[:until], "stop"), stop
        chunks = list(create(max_tokens=1000, temperature=0, stop=stop, stream=True)())
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == greedy[:until]
        assert chunks[-1].choices[0].finish_reason == "stop"


@check
def whatever_unicode_is_said_is_read():
    for text in ("", " ", "\n", "🦊👩‍👩‍👧", "שלום \u202e", "e\u0301", "\ufeff", "\u0000", "\\u0041 \"'", "\U0010ffff", "a" * 900):
        answer = create(messages=[{"role": "user", "content": text}])()
        assert answer.choices[0].message.content.encode() is not None and answer.usage.completion_tokens > 0, text
    body = json.dumps(chat()).replace("Once upon a time", "\\ud800")
    assert raw("POST", "/v1/chat/completions", body.encode())[0] == 400


@check
def prompts_that_are_too_long_are_named_as_that():
    long = [{"role": "user", "content": "word " * 2_000}]
    refused(openai.BadRequestError, create(messages=long), code="context_length_exceeded", status_code=400)
    for megabytes in (3, 5, 12):
        huge = [{"role": "user", "content": "a" * (megabytes << 20)}]
        error = refused(openai.APIStatusError, create(messages=huge), type="invalid_request_error")
        assert (error.status_code, error.code) in ((400, "context_length_exceeded"), (413, "request_too_large")), error
    assert create()().choices[0].message.content


@check
def json_that_is_none_or_absurd_is_refused():
    deep = b'{"model":"a","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for body in (b"", b"{", b"nul", b"[]", b'"a"', b"7", b'{"model":"a"', b"{'model':'a'}", deep, b'{"max_tokens":1e999}', b"\xef\xbb\xbf{}", b"\x00"):
        status, _, text = raw("POST", "/v1/chat/completions", body)
        assert status == 400 and json.loads(text)["error"]["code"] in ("invalid_json", "missing_parameter"), (body[:40], text)


# --- paths and headers


@check
def what_is_not_sold_here_is_a_typed_404():
    for call in (
        lambda: once.embeddings.create(model=MODEL, input="a"), lambda: once.images.generate(model=MODEL, prompt="a"),
        lambda: once.moderations.create(input="a"), lambda: once.audio.speech.create(model=MODEL, voice="alloy", input="a"),
        lambda: once.files.list(), lambda: once.batches.list(), lambda: once.fine_tuning.jobs.list(), lambda: once.vector_stores.list(),
    ):
        refused(openai.NotFoundError, call, code="unknown_url", status_code=404)
    for call in (lambda: once.responses.retrieve("resp_1"), lambda: once.responses.delete("resp_1"), lambda: once.responses.cancel("resp_1")):
        refused(openai.NotFoundError, call, status_code=404)
    refused(openai.APIStatusError, lambda: once.models.delete(MODEL), code="method_not_allowed", status_code=405)
    assert [model.id for model in client.models.list()] == [model.id for model in client.models.list().data]


@check
def queries_and_headers_of_others_do_no_harm():
    assert raw("GET", "/v1/models?limit=5")[0] == 200 and raw("HEAD", "/v1/models")[2] == b""
    status, headers, _ = raw("POST", "/v1/chat/completions?api-version=2024-10-21", chat(), {"Accept-Encoding": "gzip, br", "X-Other": "é"})
    assert status == 200 and "content-encoding" not in headers
    for kind in ("text/plain", "application/json; charset=utf-8", "application/octet-stream"):
        assert raw("POST", "/v1/chat/completions", chat(), {"Content-Type": kind})[0] == 200, kind
    ids = {raw("GET", "/healthz")[1]["x-request-id"] for _ in range(20)}
    assert len(ids) == 20


def on_the_wire(head, body=b""):
    host, port = ROOT.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@check
def old_and_careful_clients_are_served():
    body = json.dumps(chat(stream=True)).encode()
    old = on_the_wire(f"POST /v1/chat/completions HTTP/1.0\nHost: localhost\nContent-Length: {len(body)}\n", body)
    head, _, rest = old.partition(b"\r\n\r\n")
    assert b" 200 " in head and b"chunked" not in head.lower() and rest.startswith((b"data: ", b": ")), old
    assert rest.endswith(b"data: [DONE]\n\n")
    careful = on_the_wire(f"POST /v1/chat/completions HTTP/1.1\nHost: localhost\nExpect: 100-continue\nConnection: close\n"
                          f"Content-Length: {len(body)}\n", body)
    assert careful.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), careful[:80]


@check
def each_event_of_a_stream_is_whole():
    with httpx.stream("POST", f"{BASE}/chat/completions", json=chat(stream=True, max_tokens=60), timeout=60) as answer:
        assert answer.headers["content-type"] == "text/event-stream" and answer.headers["x-accel-buffering"] == "no"
        assert answer.headers["cache-control"] == "no-store" and answer.headers["x-request-id"]
        text = b"".join(answer.iter_raw()).decode()
    *events, end = text.split("\n\n")
    assert end == "" and events[-1] == "data: [DONE]"
    for event in events[:-1]:
        assert event.startswith(": haggle ") or json.loads(event.removeprefix("data: "))["object"] == "chat.completion.chunk", event


@check
def a_request_that_is_sent_again_under_its_key_is_bought_once():
    under = {"extra_headers": {"Idempotency-Key": f"edges-{id(client)}"}}
    first, again = (client.chat.completions.with_raw_response.create(**chat(temperature=1), **under) for _ in range(2))
    assert first.text == again.text and again.headers["idempotent-replayed"] == "true"
    refused(openai.ConflictError, lambda: once.chat.completions.create(**chat(max_tokens=9), **under), code="idempotency_key_reused")


# --- time


@check
def a_deadline_and_a_clients_patience_end_an_answer():
    # Whether nobody was found in time, or nobody began.
    error = refused(openai.InternalServerError, create(extra_body={"haggle": {"deadline": "1ms"}}))
    assert (error.status_code, error.code) in ((503, "no_provider"), (504, "deadline")), error
    for stream in (False, True):
        try:
            list(once.with_options(timeout=0.000001).chat.completions.create(**chat(max_tokens=200, stream=stream)))
        except openai.APITimeoutError:
            continue
        raise AssertionError("it was answered")
    assert create()().choices[0].message.content


# --- other clients


@check
def litellm_calls_tools_and_has_its_own_errors():
    of = {"api_base": BASE, "api_key": KEY, "num_retries": 0}
    said = asked()["messages"]
    answer = litellm.completion(model=f"openai/{CALLER}", messages=said, tools=[function("weather")], **of).choices[0].message
    assert answer.tool_calls[0].function.name == "weather"
    said = [*said, answer.model_dump(), {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "rain"}]
    chunks = litellm.completion(model=f"openai/{CALLER}", messages=said, tools=[function("weather")], stream=True, **of)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "The tool says: rain"
    for more, kind in (
        ({"messages": [{"role": "user", "content": "word " * 2_000}]}, litellm.ContextWindowExceededError),
        ({"extra_headers": {"x-haggle-budget": "0.000001"}}, litellm.exceptions.APIError),
        ({"extra_body": {"provider": {"zdr": True}}}, litellm.BadRequestError),
    ):
        try:
            litellm.completion(model=f"openai/{MODEL}", **{**of, "messages": SAID, "max_tokens": 8, **more})
        except kind:
            continue
        raise AssertionError(f"it was not refused with {kind}")
    try:
        litellm.embedding(model=f"openai/{MODEL}", input=["a"], **of)
    except litellm.NotFoundError:
        return
    raise AssertionError("it was not refused")


@check
def langchain_calls_tools_and_parses():
    model = ChatOpenAI(model=CALLER, base_url=BASE, api_key=KEY)
    bound = model.bind_tools([function("weather")])
    [call] = bound.invoke("How is it in Ulm?").tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Ulm"})
    whole = None
    for chunk in bound.stream("How is it in Ulm?"):
        whole = chunk if whole is None else whole + chunk
    assert whole.tool_calls[0]["args"] == {"city": "Ulm"}
    for method in ("json_schema", "function_calling", "json_mode"):
        assert model.with_structured_output(Place, method=method).invoke("Where, as JSON?") == Place(city="Ulm"), method
    plain = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, max_tokens=8, stream_usage=True)
    chunks = list(plain.stream("Once"))
    assert sum((chunk.usage_metadata or {}).get("output_tokens", 0) for chunk in chunks) == 8
    assert [answer.content for answer in plain.batch(["Once", "Twice"])]

    async def streamed():
        return [chunk async for chunk in plain.astream("Once")]

    assert asyncio.run(streamed())


@check
def pydantic_ai_has_its_types():
    provider = OpenAIProvider(base_url=BASE, api_key=KEY)
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        agent = Agent(kind(CALLER, provider=provider), output_type=Place)
        assert agent.run_sync("Where?").output == Place(city="Ulm")
