#!/usr/bin/env bash
# node_differential.sh <http_fuzz> <streams>: what Ferrule takes as requests, node's own parser takes as the same ones.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
if ! command -v node >/dev/null; then
    echo "SKIPPED: node is not installed"
    exit 77
fi
"$1" --emit 1 --executions "$2" --seed 93 | node "$here/node_differential.js"
