#!/usr/bin/env bash
# Run the whole suite on a virtual screen: bash scripts/test.sh [pytest's arguments]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

virtual_display "$python" -m pytest "$@"
