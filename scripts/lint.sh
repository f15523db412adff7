#!/usr/bin/env bash
# Check style and types: bash scripts/lint.sh
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

"$python" -m ruff --version >/dev/null 2>&1 && "$python" -m mypy --version >/dev/null 2>&1 \
  || "$python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,lint]"
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
