"""What unmodified Python clients see of a gateway. Its base URL is the one argument."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile

import litellm
import openai
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

import edges
from harness import BASE, CALLER, KEY, MODEL, SAID, chat, check, client, main, once, raw, refused

litellm.suppress_debug_info = True

# --- models


@check
def models_are_listed_and_found():
    listed = client.models.list()
    assert listed.object == "list"
    for model in listed.data:
        assert model.object == "model" and isinstance(model.created, int) and model.owned_by, model
        assert client.models.retrieve(model.id).id == model.id
    prices = listed.data[0].model_extra["pricing"]
    assert float(prices["prompt"]) > 0 and float(prices["completion"]) > 0, prices
    refused(openai.NotFoundError, lambda: once.models.retrieve("nobody/has:this"), code="model_not_found", param="model")


# --- chats


@check
def a_chat_is_answered():
    answer = client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=12)
    [choice] = answer.choices
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-") and answer.model == MODEL
    assert choice.index == 0 and choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason == "length" and choice.logprobs is None and choice.message.refusal is None
    usage = answer.usage
    assert usage.completion_tokens == 12 and usage.total_tokens == usage.prompt_tokens + 12, usage
    assert usage.prompt_tokens_details.cached_tokens >= 0 and usage.completion_tokens_details.reasoning_tokens == 0
    assert usage.model_extra["cost"] > 0 and answer.model_extra["haggle"]["bill"]["owed"] == usage.model_extra["cost"]
    assert answer._request_id.startswith("req_")


@check
def the_same_seed_gives_the_same_answer():
    def ask(seed):
        answer = client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=20, seed=seed, temperature=1)
        return answer.choices[0].message.content

    assert ask(7) == ask(7)
    assert len({ask(seed) for seed in range(8)}) > 1


@check
def an_answer_that_comes_to_its_end_has_stopped():
    answer = client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=1000)
    assert answer.choices[0].finish_reason == "stop", answer.choices[0]
    whole = answer.choices[0].message.content
    word = whole.split()[3]
    cut = client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=1000, stop=[word], temperature=0)
    greedy = client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=1000, temperature=0)
    until = greedy.choices[0].message.content.split(word)[0]
    assert cut.choices[0].message.content == until, (word, cut.choices[0].message.content, until)


@check
def either_number_bounds_an_answer():
    for bound in ({"max_tokens": 3}, {"max_completion_tokens": 3}, {"max_tokens": 9, "max_completion_tokens": 3}):
        answer = client.chat.completions.create(model=MODEL, messages=SAID, **bound)
        assert answer.usage.completion_tokens == 3, bound


@check
def what_asks_for_nothing_is_taken_and_what_means_nothing_is_named():
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=SAID, max_tokens=3, n=1, presence_penalty=0, frequency_penalty=0, logprobs=False,
        response_format={"type": "text"}, user="me", metadata={"a": "b"}, store=False, extra_body={"whatever": 1},
    )
    ignored = answer.headers["x-haggle-ignored"].split(", ")
    assert sorted(ignored) == ["metadata", "store", "user", "whatever"], ignored
    assert answer.headers["x-haggle-provider"] and answer.headers["x-haggle-job"]
    assert float(answer.headers["x-haggle-price-out"]) > 0


@check
def messages_of_all_kinds_are_read():
    said = [
        {"role": "system", "content": "Tell stories."},
        {"role": "developer", "content": "Short ones."},
        {"role": "user", "content": [{"type": "text", "text": "Once "}, {"type": "text", "text": "upon"}], "name": "Ann"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "a time, 🦊 \ufeffé"},
    ]
    assert client.chat.completions.create(model=MODEL, messages=said, max_tokens=3).choices[0].message.content


def of_stream(**more):
    return list(client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=10, stream=True, **more))


@check
def a_stream_has_the_chunks_of_one_answer():
    chunks = of_stream()
    for name in ("id", "created", "model", "object"):
        assert len({getattr(chunk, name) for chunk in chunks}) == 1, name
    assert chunks[0].object == "chat.completion.chunk" and chunks[0].choices[0].delta.role == "assistant"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[-1] == "length" and not any(reasons[:-1]), reasons
    assert all(chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@check
def a_stream_tells_its_usage_if_it_is_asked():
    chunks = of_stream(stream_options={"include_usage": True})
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 10
    assert all(chunk.usage is None for chunk in chunks[:-1])
    whole = client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=10)
    assert whole.usage.prompt_tokens == chunks[-1].usage.prompt_tokens
    assert not of_stream(stream_options={"include_usage": False})[-1].usage


@check
def the_stream_helper_puts_the_same_together():
    with client.chat.completions.stream(model=MODEL, messages=SAID, seed=3, max_tokens=1000) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content == text and answer.choices[0].finish_reason == "stop"


@check
def a_stream_that_is_left_is_paid_up_to_there():
    stream = client.chat.completions.create(model=MODEL, messages=SAID, max_tokens=200, stream=True)
    first = next(iter(stream))
    stream.close()
    job = raw("GET", f"/v1/haggle/jobs/{first.id}")
    assert job[0] == 200, job


# --- texts


@check
def a_text_is_continued():
    answer = client.completions.create(model=MODEL, prompt="Once upon", max_tokens=6)
    assert answer.object == "text_completion" and answer.choices[0].text and answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 6
    chunks = list(client.completions.create(model=MODEL, prompt=["Once upon"], max_tokens=6, stream=True,
                                            stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == 6 and "".join(c.choices[0].text for c in chunks[:-1])
    refused(openai.BadRequestError, lambda: client.completions.create(model=MODEL, prompt=["a", "b"], max_tokens=1),
            code="unsupported_value", param="prompt")


# --- responses


@check
def a_response_is_given():
    answer = client.responses.create(model=MODEL, input="Once upon a time", max_output_tokens=1000)
    assert answer.object == "response" and answer.status == "completed" and answer.output_text
    [item] = answer.output
    assert item.type == "message" and item.role == "assistant" and item.content[0].type == "output_text"
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.output_tokens_details.reasoning_tokens == 0 and answer.error is None
    cut = client.responses.create(model=MODEL, input=SAID, instructions="Tell stories.", max_output_tokens=4)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"
    again = SAID + [item.model_dump(exclude_none=True) for item in answer.output] + [{"role": "user", "content": "And then?"}]
    refused_or_told = client.responses.create(model=MODEL, input=again[-1:], max_output_tokens=4)
    assert refused_or_told.output_text


@check
def a_response_is_streamed_with_its_events():
    with client.responses.stream(model=MODEL, input="Once upon a time") as stream:
        events = list(stream)
        answer = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added",
                         "response.content_part.added"], kinds[:4]
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done",
                          "response.completed"], kinds[-4:]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == answer.output_text and answer.usage.output_tokens > 0


@check
def what_is_kept_nowhere_is_refused():
    for name, value in (("previous_response_id", "resp_1"), ("background", True), ("conversation", "conv_1")):
        refused(openai.BadRequestError, lambda: client.responses.create(model=MODEL, input="a", **{name: value}),
                code="unsupported_parameter", param=name)


# --- what only some providers offer

TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False}


@check
def a_tool_is_called_and_its_result_is_read():
    tools = [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}]
    said = [{"role": "user", "content": "How is the weather in Ulm?"}]
    answer = client.chat.completions.create(model=CALLER, messages=said, tools=tools)
    [call] = answer.choices[0].message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls" and call.type == "function", answer
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Ulm"}
    said += [answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert client.chat.completions.create(model=CALLER, messages=said, tools=tools).choices[0].message.content == "The tool says: rain"
    with client.chat.completions.stream(model=CALLER, messages=said[:1], tools=tools) as stream:
        [streamed] = stream.get_final_completion().choices[0].message.tool_calls
    assert streamed.function.arguments == call.function.arguments


@check
def a_response_calls_a_tool_and_reads_its_result():
    tools = [{"type": "function", "name": "weather", "parameters": TOOL, "strict": True}]
    said = [{"role": "user", "content": "How is the weather in Ulm?"}]
    answer = client.responses.create(model=CALLER, input=said, tools=tools)
    [call] = answer.output
    assert call.type == "function_call" and json.loads(call.arguments) == {"city": "Ulm"}, answer
    said += [call, {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    assert client.responses.create(model=CALLER, input=said, tools=tools).output_text == "The tool says: rain"


@check
def an_answer_has_the_schema_that_was_asked_for():
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": TOOL, "strict": True}}
    answer = client.chat.completions.create(model=CALLER, messages=SAID, response_format=form)
    assert json.loads(answer.choices[0].message.content) == {"city": "Ulm"}
    refused(openai.BadRequestError, lambda: client.chat.completions.create(model=CALLER, messages=SAID, logit_bias={"1": 1}),
            code="unsupported_parameter", param="logit_bias")


@check
def an_agent_uses_its_tool():
    provider = OpenAIProvider(base_url=BASE, api_key=KEY)
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        agent = Agent(kind(CALLER, provider=provider))

        @agent.tool_plain
        def weather(city: str) -> str:
            return f"rain in {city}"

        assert agent.run_sync("How is the weather?").output == "The tool says: rain in Ulm"


# --- refusals


@check
def what_would_change_an_answer_is_refused_by_name():
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    for name, value in (
        ("tools", [tool]), ("response_format", {"type": "json_object"}), ("logprobs", True), ("n", 2),
        ("presence_penalty", 1), ("frequency_penalty", -1), ("logit_bias", {"1": 5}), ("reasoning_effort", "high"),
        ("functions", [{"name": "f"}]), ("modalities", ["audio"]),
    ):
        refused(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=SAID, **{name: value}),
                code="unsupported_parameter", param=name, status_code=400, type="invalid_request_error")
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]}]
    refused(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=image),
            code="unsupported_value", param="messages[0].content[0].image_url")


@check
def wrong_values_are_named():
    for name, value in (
        ("temperature", 3), ("top_p", -1), ("max_tokens", 0), ("max_tokens", "a"), ("stop", ["a"] * 5), ("messages", []),
        ("seed", 1.5), ("stream", "yes"),
    ):
        body = chat(**{name: value})
        status, headers, text = raw("POST", "/v1/chat/completions", body)
        error = json.loads(text)["error"]
        assert (status, error["param"], error["type"]) == (400, name, "invalid_request_error"), (name, text)
        assert headers["x-request-id"] and error["code"] and error["message"]


@check
def statuses_mean_what_clients_take_them_for():
    def ask(**more):
        return lambda: client.chat.completions.create(**chat(**more))

    refused(openai.NotFoundError, ask(model="nobody/has:this"), code="model_not_found", param="model", status_code=404)
    poor = refused(openai.APIStatusError, ask(extra_headers={"x-haggle-budget": "0.000001"}), code="budget_exceeded",
                   status_code=402)
    details = poor.body["details"]
    assert details["available"] == 0.000001 and details["required"] > 0 and details["cheapest"] > 0, details
    refused(openai.APIStatusError, ask(extra_body={"haggle": {"budget": 0.000001}}), status_code=402)
    assert ask(extra_headers={"x-haggle-budget": str(details["required"])})().usage.completion_tokens == 8
    refused(openai.BadRequestError, ask(max_tokens=100_000), code="context_length_exceeded", status_code=400)
    refused(openai.BadRequestError, ask(extra_body={"provider": {"zdr": True}}), code="unsupported_parameter",
            param="provider.zdr")


@check
def every_path_has_the_one_envelope():
    for method, path, body, status, code in (
        ("GET", "/v1/files", None, 404, "unknown_url"),
        ("POST", "/v1/embeddings", {"model": MODEL, "input": "a"}, 404, "unknown_url"),
        ("GET", "/v1/chat/completions", None, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", None, 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions", b"{", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"[]", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", b"\xff\xfe", 400, "invalid_json"),
        ("POST", "/v1/chat/completions", {}, 400, "missing_parameter"),
        ("GET", "/v1/haggle/jobs/nothing", None, 404, "job_not_found"),
    ):
        found, headers, text = raw(method, path, body)
        error = json.loads(text)["error"]
        assert (found, error["code"]) == (status, code), (method, path, text)
        assert set(error) >= {"message", "type", "param", "code"} and headers["x-request-id"]
        assert headers["content-type"].startswith("application/json"), headers
    assert raw("GET", "/v1/chat/completions")[1]["allow"] == "POST"


@check
def pages_and_names_of_others_are_kept_out():
    body = chat()
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        status, _, text = raw("POST", "/v1/chat/completions", body, headers)
        assert status == 403 and json.loads(text)["error"]["type"] == "permission_error", (headers, text)
    asked = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os"}
    status, headers, _ = raw("OPTIONS", "/v1/chat/completions", None, asked)
    assert status in (200, 204) and headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "authorization" in headers["access-control-allow-headers"] and "POST" in headers["access-control-allow-methods"]
    status, headers, _ = raw("GET", "/v1/models", None, {"Origin": "http://localhost:3000"})
    assert status == 200 and headers["access-control-allow-origin"] == "http://localhost:3000"


@check
def it_says_how_it_is():
    assert raw("GET", "/healthz")[0] == 200 and raw("GET", "/readyz")[0] == 200
    answer = client.chat.completions.create(**chat())
    job = json.loads(raw("GET", f"/v1/haggle/jobs/{answer.id}")[2])
    assert job["state"] == "finished" and job["bill"] == answer.model_extra["haggle"]["bill"] and job["route"], job


# --- many at once, and without waiting


@check
def asynchronous_clients_share_it():
    async def all_at_once():
        async with openai.AsyncOpenAI(base_url=BASE, api_key=KEY) as many:
            async def streamed(n):
                text = ""
                async for chunk in await many.chat.completions.create(**chat(stream=True, seed=n)):
                    text += chunk.choices[0].delta.content or ""
                return text

            async def whole(n):
                answer = await many.chat.completions.create(**chat(seed=n))
                return answer.choices[0].message.content

            streams = await asyncio.gather(*(streamed(n) for n in range(6)))
            wholes = await asyncio.gather(*(whole(n) for n in range(6)))
            assert streams == wholes, (streams, wholes)
            try:
                await many.chat.completions.create(**chat(model="nobody/has:this"))
            except openai.NotFoundError as error:
                assert error.code == "model_not_found"
            else:
                raise AssertionError("it was not refused")

    asyncio.run(all_at_once())


@check
def an_asynchronous_client_that_is_cancelled_leaves_nothing_running():
    async def cancelled():
        async with openai.AsyncOpenAI(base_url=BASE, api_key=KEY) as many:
            task = asyncio.create_task(many.chat.completions.create(**chat(max_tokens=200)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            answer = await many.chat.completions.create(**chat())
            assert answer.choices[0].message.content

    asyncio.run(cancelled())


# --- other clients


@check
def litellm_buys():
    of = {"model": f"openai/{MODEL}", "api_base": BASE, "api_key": KEY}
    answer = litellm.completion(messages=SAID, max_tokens=8, **of)
    assert answer.choices[0].message.content and answer.usage.completion_tokens == 8
    chunks = list(litellm.completion(messages=SAID, max_tokens=8, stream=True, stream_options={"include_usage": True}, **of))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert asyncio.run(litellm.acompletion(messages=SAID, max_tokens=8, **of)).choices[0].message.content
    text = litellm.text_completion(prompt="Once upon", max_tokens=4, model=f"text-completion-openai/{MODEL}",
                                   api_base=BASE, api_key=KEY)
    assert text.choices[0].text
    for more, kind in ((dict(of, model="openai/nobody"), litellm.NotFoundError), (dict(of, n=2), litellm.BadRequestError)):
        try:
            litellm.completion(messages=SAID, max_tokens=8, **more)
        except kind:
            continue
        raise AssertionError(f"it was not refused with {kind}")


@check
def llm_buys():
    with tempfile.TemporaryDirectory() as home:
        with open(os.path.join(home, "extra-openai-models.yaml"), "w", encoding="utf-8") as models:
            models.write(f"- model_id: market\n  model_name: {MODEL}\n  api_base: {BASE}\n")
        environment = dict(os.environ, LLM_USER_PATH=home, OPENAI_API_KEY=KEY)
        for flags in ([], ["--no-stream"]):
            command = [os.path.join(os.path.dirname(sys.executable), "llm"), "-m", "market", *flags, "-o", "max_tokens", "8", "Once"]
            ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
            assert ran.returncode == 0 and ran.stdout.strip(), ran


@check
def langchain_buys():
    model = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, max_tokens=8)
    answer = model.invoke("Once upon a time")
    assert answer.content and answer.usage_metadata["output_tokens"] == 8, answer
    assert "".join(chunk.content for chunk in model.stream("Once upon a time"))
    responses = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, max_tokens=8, use_responses_api=True)
    assert responses.invoke("Once upon a time").content


@check
def pydantic_ai_buys():
    provider = OpenAIProvider(base_url=BASE, api_key=KEY)
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        agent = Agent(kind(MODEL, provider=provider), model_settings={"max_tokens": 1000})
        ran = agent.run_sync("Once upon a time")
        assert ran.output and ran.usage.output_tokens > 0, ran

        async def streamed(agent=agent):
            async with agent.run_stream("Once upon a time") as stream:
                return "".join([text async for text in stream.stream_text(delta=True)])

        assert asyncio.run(streamed())


edges.add()
main()
