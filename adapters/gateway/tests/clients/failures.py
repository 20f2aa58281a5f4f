"""What unmodified clients see when a provider, a client or the gateway goes away. Arguments: the program haggle, and a script
for Node that buys with the AI SDK. Every node is a process of its own, killed when so many tokens were read."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import openai

HAGGLE, BUYS_ONCE = sys.argv[1:3]
MODEL = "haggle-tiny-stories"
ADDRESS, URL = r"/ip4/127\S*/p2p/\w+", r"http://\S*/v1"
TOKENS = 100
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Node:
    """A node in a home of its own, and what it said first."""

    all = []

    def __init__(self, expected, *args):
        self.home = tempfile.TemporaryDirectory()
        self.log = os.path.join(self.home.name, "log")
        environment = {"PATH": os.environ["PATH"], "HOME": self.home.name, "HAGGLE_ENABLE_MDNS": "false"}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([HAGGLE, *args], stdout=log, stderr=log, env=environment, cwd=self.home.name)
        Node.all.append(self)
        self.said = until(lambda: re.search(expected, self.text()))[0]
        self.peer = self.said.rsplit("/", 1)[-1]

    def text(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def end(self, how):
        self.process.send_signal(how)
        self.process.wait(60)


def until(found):
    """What is waited for, which another process brings about."""
    patience = time.monotonic() + 60
    while time.monotonic() < patience:
        if result := found():
            return result
        time.sleep(0.02)
    raise AssertionError("it did not come")


def provider(*more):
    return Node(ADDRESS, "serve", "--listen", "/ip4/127.0.0.1/tcp/0", "--dht", "false", "--ledger", "ledger", *more)


def gateway(providers, *more):
    """A gateway that knows these providers."""
    known = [arg for one in providers for arg in ("--provider", one.said)]
    node = Node(URL, "gateway", "--listen", "127.0.0.1:0", "--dht", "false", "--budget", "1", *known, *more)
    client = openai.OpenAI(base_url=node.said, api_key="none", max_retries=0, timeout=60)
    until(lambda: len(sold(client)) == len(providers))
    return node, client


def sold(client):
    return [one for model in client.models.list().data for one in model.model_extra["haggle"]["providers"]]


def counted(node):
    return counted_with(node, "none")


def counted_with(node, key):
    """The gateway's counters."""
    request = urllib.request.Request(node.said.removesuffix("/v1") + "/metrics", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line.startswith("haggle_gateway")]
    return {name.removeprefix("haggle_gateway_"): float(value) for name, value in lines}


def purchases(node):
    return sum(n for name, n in counted(node).items() if name.startswith("jobs_total"))


def asked(**more):
    return {"model": MODEL, "messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": TOKENS, "seed": 7, **more}


def streamed(client, at, then, **more):
    """Text, usage, finish reasons and the longest silence of a stream during which `then` is done after so many pieces."""
    stream = client.chat.completions.with_raw_response.create(**asked(stream=True, stream_options={"include_usage": True}, **more))
    text, reasons, pieces, silence, usage, last = "", [], 0, 0, None, time.monotonic()
    for chunk in stream.parse():
        now = time.monotonic()
        silence, last = max(silence, now - last), now
        usage = chunk.usage or usage
        for choice in chunk.choices:
            reasons += [choice.finish_reason] if choice.finish_reason else []
            text += choice.delta.content or ""
            pieces += bool(choice.delta.content)
            if choice.delta.content and pieces == at:
                then(stream.headers["x-haggle-provider"])
                last = time.monotonic()
    return text, usage, reasons, silence


@check
def a_provider_that_is_killed_in_mid_answer_is_replaced_unseen():
    for way in ("streamed", "whole"):
        slow = ("--tokens-per-second", "40")
        nodes = [provider("--price-out", price, *slow) for price in ("0.5", "0.9")]
        node, client = gateway(nodes)

        def kill(peer, nodes=nodes):
            [victim] = [one for one in nodes if one.peer == peer]
            victim.end(signal.SIGKILL)

        if way == "streamed":
            text, usage, reasons, silence = streamed(client, 20, kill)
            assert reasons == ["length"], reasons
        else:
            client = client.with_options(timeout=60)
            with subprocess.Popen([sys.executable, "-c", WHOLE, node.said, json.dumps(asked())], stdout=subprocess.PIPE) as buyer:
                until(lambda: counted(node)["token_gap_seconds_count"] > 20)
                kill(nodes[0].peer)
                said = json.loads(buyer.communicate(timeout=60)[0])
            answer = openai.types.chat.ChatCompletion.model_validate(said)
            text, usage, silence = answer.choices[0].message.content, answer.usage, None
        if silence:
            print(f"        the longest silence was {silence * 1000:.0f} ms")
        unhurt = client.chat.completions.create(**asked())
        assert text == unhurt.choices[0].message.content, (text, unhurt)
        counts = [(one.prompt_tokens, one.completion_tokens) for one in (usage, unhurt.usage)]
        assert counts[0] == counts[1] and counts[0][1] == TOKENS, counts
        assert (purchases(node), counted(node)['failovers_total{how="exact"}']) == (2, 1)
        for one in Node.all[-3:]:
            one.end(signal.SIGKILL)


# Another process waits for the whole answer.
WHOLE = """
import json, sys, openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, timeout=60)
print(client.chat.completions.create(**json.loads(sys.argv[2])).model_dump_json())
"""


@check
def who_ignores_that_it_should_not_ask_again_buys_once():
    for way in ("streamed", "whole"):
        only = provider("--price-out", "0.5", "--tokens-per-second", "40")
        # Nobody else is known, so it is waited for.
        node, _ = gateway([only], "--set", "resume_timeout=2s")
        with subprocess.Popen(["node", BUYS_ONCE, node.said, MODEL, way], stdout=subprocess.PIPE) as buyer:
            until(lambda: counted(node)["token_gap_seconds_count"] > 10)
            only.end(signal.SIGKILL)
            told = json.loads(buyer.communicate(timeout=60)[0])
        assert told["failed"] and told["requests"] == 1, told
        assert told["status"] == (200 if way == "streamed" else 424), told
        assert (purchases(node), counted(node)["jobs_running"]) == (1, 0)
        node.end(signal.SIGKILL)


@check
def a_client_that_goes_away_leaves_the_slot_to_the_next():
    # A whole answer would take the only slot for minutes.
    only = provider("--tokens-per-second", "3", "--slots", "1", "--set", "queue=0")
    node, client = gateway([only])
    for way in ("streamed", "whole"):
        if way == "streamed":
            stream = client.chat.completions.create(**asked(stream=True, max_tokens=400))
            [next(iter(stream)) for _ in range(3)]
            stream.close()
        else:
            begun = counted(node)["first_token_seconds_count"]
            with subprocess.Popen([sys.executable, "-c", WHOLE, node.said, json.dumps(asked(max_tokens=400))]) as buyer:
                until(lambda begun=begun: counted(node)["first_token_seconds_count"] > begun)
                buyer.kill()
        left = time.monotonic()
        stream = client.with_options(timeout=20).chat.completions.create(**asked(stream=True, max_tokens=2))
        next(iter(stream))
        print(f"        {way}: the next one had its first token after {(time.monotonic() - left) * 1000:.0f} ms")
        assert list(stream)[-1].choices[0].finish_reason == "length"
    node.end(signal.SIGKILL)


@check
def a_gateway_that_is_ended_cancels_and_bills_all():
    seller = provider("--price-out", "0.5", "--tokens-per-second", "30", "--slots", "3")
    node, client = gateway([seller])
    streams = [client.chat.completions.create(**asked(stream=True, max_tokens=400)) for _ in range(3)]
    begun = [(stream, [next(stream) for _ in range(3)]) for stream in map(iter, streams)]
    node.process.send_signal(signal.SIGTERM)
    owed = []
    for stream, _ in begun:
        try:
            list(stream)
        except openai.APIError as error:
            assert error.code == "interrupted" and error.body["details"]["reason"] == "cancelled", error.body
            owed.append(error.body["details"]["bill"]["owed"])
    assert len(owed) == 3 and node.process.wait(60) == 0, (owed, node.text())
    # The provider has put down each of them, and at most what the client was told: what was on its way then counts for the buyer.
    path = os.path.join(seller.home.name, "ledger")
    until(lambda: os.path.exists(path) and sum(1 for _ in open(path, encoding="utf-8")) == 3)
    with open(path, encoding="utf-8") as ledger:
        lines = [json.loads(line) for line in ledger]
    assert all(line["outcome"] == "cancelled" for line in lines), lines
    assert 0 < sum(float(line["owed"]) for line in lines) <= sum(owed), (lines, owed)


def fails(kind, client, **more):
    """The error of a kind that a request ends with."""
    try:
        client.chat.completions.create(**asked(max_tokens=2, **more))
    except kind as error:
        assert error.body["message"] and error.request_id, error.body
        return error
    raise AssertionError(f"it was not refused with {kind.__name__}")


@check
def who_may_not_ask_now_is_told_why_by_the_class_of_the_error():
    keys = tempfile.NamedTemporaryFile("w")
    keys.write("sk-a-long-secret\n")
    keys.flush()
    seller = provider("--tokens-per-second", "20")
    node = Node(URL, "gateway", "--listen", "127.0.0.1:0", "--dht", "false", "--provider", seller.said, "--key-file", keys.name,
                "--set", "limits.jobs=1")
    client = openai.OpenAI(base_url=node.said, api_key="sk-a-long-secret", max_retries=0, timeout=60)
    until(lambda: sold(client))
    for wrong in ("none", "sk-a-long-secreT", "sk-a-long-secret-and-more"):
        error = fails(openai.AuthenticationError, client.with_options(api_key=wrong))
        assert (error.status_code, error.code) == (401, "invalid_api_key") and error.response.headers["www-authenticate"] == "Bearer"
    # The one job that may run.
    stream = client.chat.completions.create(**asked(stream=True))
    next(iter(stream))
    error = fails(openai.RateLimitError, client)
    assert (error.status_code, error.code) == (429, "too_many_jobs") and int(error.response.headers["retry-after"]) > 0
    stream.close()
    until(lambda: counted_with(node, "sk-a-long-secret")["jobs_running"] == 0)
    seller.end(signal.SIGKILL)
    error = fails(openai.InternalServerError, client)
    assert (error.status_code, error.code) == (503, "no_provider") and int(error.response.headers["retry-after"]) > 0, error.body
    fails(openai.InternalServerError, client.with_options(max_retries=2))
    assert counted_with(node, "sk-a-long-secret")["retries_seen_total"] == 2
    assert "secret" not in node.text()


def main():
    failed = 0
    for function in CHECKS:
        try:
            function()
            print(f"ok      {function.__name__}", flush=True)
        except Exception as error:  # Each check says for itself what is wrong.
            failed += 1
            print(f"FAILED  {function.__name__}: {type(error).__name__}: {error}", flush=True)
            if os.environ.get("CLIENTS_TRACE"):
                import traceback
                traceback.print_exc()
        finally:
            for node in Node.all:
                if node.process.poll() is None:
                    node.end(signal.SIGKILL)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} failures are met as they should be")
    sys.exit(failed > 0)


main()
