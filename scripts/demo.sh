#!/usr/bin/env bash
# Open a scan in napari and restore it: bash scripts/demo.sh [SCAN]
#
# Without a display the same happens on a virtual one, and leaves demo_output/before_after_difference.png and
# demo_output/restored.nii.gz.
set -euo pipefail
scan=()
if [ $# -gt 0 ]; then
  # The set-up changes the directory, so a relative path must be made absolute first.
  case $1 in
    /*) scan=("$1") ;;
    *) scan=("$PWD/$1") ;;
  esac
fi
extra=pyqt6
. "$(dirname "${BASH_SOURCE[0]}")/_environment.sh"

if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || [ "$(uname)" = Darwin ]; then
  "$python" scripts/demo.py ${scan[@]+"${scan[@]}"}
else
  virtual_display "$python" scripts/demo.py --leave-files demo_output ${scan[@]+"${scan[@]}"}
fi
