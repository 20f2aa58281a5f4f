"""A server with OpenAI's interface that calls the first tool it is given, and knows JSON. It prints its address."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "caller"


def written(request):
    """The deltas of an answer, and why it ends."""
    last = request["messages"][-1]
    if last["role"] == "tool":
        return [{"content": f"The tool says: {last['content']}"}], "stop"
    if request.get("tools"):
        function = {"name": request["tools"][0]["function"]["name"], "arguments": ""}
        first = {"index": 0, "id": "call_1", "type": "function", "function": function}
        rest = [{"index": 0, "function": {"arguments": part}} for part in ('{"city":', '"Ulm"}')]
        return [{"tool_calls": [call]} for call in [first, *rest]], "tool_calls"
    if request.get("response_format", {}).get("type", "text") != "text":
        return [{"content": '{"city":'}, {"content": '"Ulm"}'}], "stop"
    return [{"content": "Nothing was asked."}], "stop"


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
