# The set-up that test.sh, demo.sh and lint.sh share; it is sourced, not run.
#
# Afterwards the current directory is the repository, `$python` is .venv's Python with this package installed in it, and
# `virtual_display COMMAND...` runs a command on a virtual screen. Anything already installed is not installed again.
# The package comes with the extra that `$extra` names, "test" by default.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Without a terminal nothing may wait for an answer, and a closed stdin must not become some file that is opened next.
[ -t 0 ] || exec </dev/null

python=$PWD/.venv/bin/python

. scripts/_debian.sh

# An independent DICOM reader, which a test uses if it is installed; nothing else needs it.
wished_packages=(dcm2niix)

say() { printf '%s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The name with t64 is the same library in Debian 13 and Ubuntu 24.04.
debian_has() {
  local name
  for name in "$1" "${1}t64"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] && return 0
  done
  return 1
}

apt_install() {
  say "Installing from Debian: $*"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

install_wished_packages() {
  local name
  for name in "${wished_packages[@]}"; do
    if ! command -v "$name" >/dev/null && [ "$(id -u)" = 0 ]; then
      apt_install "$name" || say "$name could not be installed; the tests that use it are skipped."
    fi
  done
}

install_debian_packages() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || return 0
  local name missing=()
  for name in "${debian_packages[@]}"; do
    debian_has "$name" || missing+=("$name")
  done
  # The CPU kernel is built by any installed C++ compiler; CMake and ninja come from PyPI.
  command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || missing+=(g++)
  install_wished_packages
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ]; then
    apt_install "${missing[@]}" || fail "These Debian packages could not be installed: ${missing[*]}."
  else
    say "These Debian packages are missing, and only root can install them: sudo apt-get install ${missing[*]}"
  fi
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "Python 3.11 or newer is needed; set PYTHON to it if its name is not python3."
}

make_venv() {
  if "$python" --version >/dev/null 2>&1; then
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null
    return
  fi
  local base
  base=$(find_python)
  if ! "$base" -c 'import ensurepip, venv' 2>/dev/null; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
      apt_install python3-venv || fail "python3-venv could not be installed, and .venv cannot be created without it."
    else
      fail "This Python cannot create virtual environments: sudo apt-get install python3-venv"
    fi
  fi
  say "Making .venv with $("$base" --version)"
  "$base" -m venv --clear .venv
}

# Everything that an installation copies or compiles; Python files are used in place.
installed_state() {
  printf '%s\n' "$PWD"
  "$python" --version
  find pyproject.toml constraints.txt napari.yaml src_kernels -type f -not -name '*.py' -not -name '*.pyc' -not -name '*.md' \
    -exec cksum {} + | LC_ALL=C sort
}

# What tests need includes what all others do.
install_package() {
  local wanted=${extra:-test} state one
  state=$(installed_state)
  for one in test "$wanted"; do
    [ -f ".venv/installed-$one" ] && [ "$(cat ".venv/installed-$one")" = "$state" ] && return
  done
  say "Installing this package and its requirements into .venv (a few minutes the first time)"
  "$python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$wanted]" \
    || fail "The installation into .venv failed; pip's message above says why."
  printf '%s\n' "$state" >".venv/installed-$wanted"
}

virtual_display() {
  command -v xvfb-run >/dev/null || fail "A virtual screen is needed: sudo apt-get install xvfb xauth"
  xvfb-run -a -s "-screen 0 1600x1000x24" "$@"
}

install_debian_packages
make_venv
install_package
