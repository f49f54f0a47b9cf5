# Sourced by the other scripts: finds Python, makes .venv where it is missing, installs what changed.
# Extras to install are in AGFAS_EXTRAS (default: none). PYTHON chooses the interpreter.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.10 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python from 3.10 to 3.13 was found. Install one, or name it: PYTHON=/path/to/python bash $0" >&2
  return 1
}

make_environment() {
  local venv="${AGFAS_VENV:-.venv}" python stamp wanted
  if [ ! -x "$venv/bin/python" ]; then
    python="$(find_python)"
    "$python" -m venv "$venv" || {
      echo "Python's venv module is missing. On Debian: apt-get install python3-venv" >&2
      return 1
    }
  fi
  stamp="$venv/agfas-installed"
  wanted="$(cksum pyproject.toml) ${AGFAS_EXTRAS:-}"
  if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    echo "Installing into $venv; the first time this downloads some gigabytes." >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".${AGFAS_EXTRAS:-}"
    printf '%s\n' "$wanted" > "$stamp"
  fi
  PATH="$PWD/$venv/bin:$PATH"
  export PATH
}
