#!/usr/bin/env bash
# Run the whole suite on a virtual screen, files distributed over all CPU cores: bash scripts/test.sh
# With arguments, which are passed to pytest, in one process: bash scripts/test.sh tests/jobs -x
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

[ "$#" -gt 0 ] || set -- -n logical --maxprocesses 8 --dist loadfile
virtual_display "$python" -m pytest "$@"
