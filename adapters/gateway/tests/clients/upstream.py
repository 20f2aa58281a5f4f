"""A server with OpenAI's interface that calls the first tool it is given, and knows JSON. It prints its address."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "caller"


def written(request):
    """The deltas of an answer, and why it ends."""
    thoughts = [{"reasoning_content": part} for part in ("Let me ", "see. ")] if request.get("reasoning_effort") else []
    last = request["messages"][-1]
    results = [message["content"] for message in request["messages"] if message["role"] == "tool"]
    if last["role"] == "tool":
        return thoughts + [{"content": f"The tool says: {' and '.join(results)}"}], "stop"
    if request.get("tools"):
        calls = request["tools"] if request.get("parallel_tool_calls", True) else request["tools"][:1]
        return thoughts + [piece for index, tool in enumerate(calls) for piece in called(index, tool)], "tool_calls"
    if request.get("response_format", {}).get("type", "text") != "text":
        return thoughts + [{"content": '{"city":'}, {"content": '"Ulm"}'}], "stop"
    images = [part for part in last["content"] if part["type"] == "image_url"] if isinstance(last["content"], list) else []
    if images:
        return thoughts + [{"content": f"{len(images)} of {images[0]['image_url']['url'].split(';')[0]}"}], "stop"
    return thoughts + [{"content": "Nothing was asked."}], "stop"


def called(index, tool):
    """A call in pieces."""
    function = {"name": tool["function"]["name"], "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": f"call_{index + 1}", "type": "function", "function": function}]}
    for part in ('{"city":', '"Ulm"}'):
        yield {"tool_calls": [{"index": index, "function": {"arguments": part}}]}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, kind, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path != "/v1/models":
            return self.answer("application/json", b"{}", 404)
        listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "tests"}]}
        return self.answer("application/json", json.dumps(listed).encode())

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        deltas, reason = written(request)
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": reason})
        usage = {"prompt_tokens": 9, "completion_tokens": len(deltas), "total_tokens": 9 + len(deltas)}
        chunks = [{"choices": [choice]} for choice in choices] + [{"choices": [], "usage": usage}]
        same = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
        events = [f"data: {json.dumps({**same, **chunk})}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
        self.answer("text/event-stream", "".join(events).encode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
server.serve_forever()
