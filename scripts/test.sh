#!/usr/bin/env bash
# Run the whole suite on a virtual screen, files distributed over all CPU cores: bash scripts/test.sh
# Arguments are pytest's: bash scripts/test.sh -m "not slow". If they name files or folders, one process runs these.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

# One process more than processors: some tests wait, for a window, a clock or a process that they started.
processes=$(("$(getconf _NPROCESSORS_ONLN)" + 1))
shared_out=(-n "$((processes < 8 ? processes : 8))" --dist loadfile)
for word in "$@"; do
  [ ! -e "${word%%::*}" ] || shared_out=()
done

# Each of the hundreds of processes that tests start would compile the package again.
unset PYTHONDONTWRITEBYTECODE

# Every slab of a job is synced to the disk; in memory, where there is plenty, nothing waits for that.
most_written_kib=$((4 << 20))
free_kib=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }' || true)
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ] && [ "${free_kib:-0}" -ge "$most_written_kib" ]; then
  in_memory=$(mktemp -d /dev/shm/restore-rwkv-tests.XXXXXX)
  trap 'rm -rf "$in_memory"' EXIT
  # Some tests go on without the rights of root.
  chmod a+x "$in_memory"
  # Tests run programs that they have compiled, which a container may forbid there.
  cp "$(type -P true)" "$in_memory/program" && "$in_memory/program" 2>/dev/null && export TMPDIR=$in_memory
fi

virtual_display "$python" -m pytest ${shared_out[@]+"${shared_out[@]}"} "$@"
