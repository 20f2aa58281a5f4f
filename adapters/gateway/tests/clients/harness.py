"""What all checks of Python clients share. The gateway's base URL is the one argument."""

import json
import os
import sys
import traceback
import urllib.error
import urllib.request

import openai

BASE = sys.argv[1]
ROOT = BASE.removesuffix("/v1")
KEY = "none"
SAID = [{"role": "user", "content": "Once upon a time"}]
CHECKS = []

client = openai.OpenAI(base_url=BASE, api_key=KEY)
once = client.with_options(max_retries=0)
MODEL, CALLER = "haggle-tiny-stories", "caller"


def check(function):
    CHECKS.append(function)
    return function


def refused(kind, call, **expected):
    """The error that a call ends with, which has to be of a kind and to have these attributes."""
    try:
        call()
    except kind as error:
        found = {name: getattr(error, name) for name in expected}
        assert found == expected, found
        assert error.request_id and error.body["message"], error.body
        return error
    raise AssertionError(f"it was not refused with {kind.__name__}")


def raw(method, path, body=None, headers=None):
    """Status, headers and body, whatever the status is."""
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    request = urllib.request.Request(ROOT + path, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def chat(**more):
    return {"model": MODEL, "messages": SAID, "max_tokens": 8, **more}


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
                traceback.print_exc()
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks of Python clients hold")
    sys.exit(failed > 0)

