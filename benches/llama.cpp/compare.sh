#!/usr/bin/env bash
# The engine beside llama.cpp: the same file, the same prompts, one core, in turn, so that both meet the same noise.
#
#   npm install --prefix DIR --ignore-scripts node-llama-cpp@3.22.1     # once: llama.cpp as libraries, with Node 20
#   benches/llama.cpp/compare.sh FILE.gguf DIR [ROUNDS]
set -euo pipefail
file=${1:?a GGUF file} modules=${2:?the folder of node_modules} rounds=${3:-3}
here=$(cd "$(dirname "$0")" && pwd)

if ! command -v node >/dev/null || [ ! -d "$modules/node_modules/node-llama-cpp" ]; then
    echo "SKIPPED: Node or $modules/node_modules/node-llama-cpp is missing; see the head of this script" >&2
    exit 0
fi
cargo build --release -q -p haggle-engine --example speed
speed=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/examples/speed
cp "$here/generate.mjs" "$modules/haggle-generate.mjs"
trap 'rm -f "$modules/haggle-generate.mjs"' EXIT

for round in $(seq "$rounds"); do
    echo "round $round, haggle"
    taskset -c 0 "$speed" "$file" 1 60 | grep -o 'read .* wrote .* second'
    echo "round $round, llama.cpp"
    (cd "$modules" && taskset -c 0 node haggle-generate.mjs "$file" 60)
done
