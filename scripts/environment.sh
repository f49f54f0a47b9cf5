# Sourced by the other scripts: finds Python, creates .venv if it is missing, and installs the package if
# pyproject.toml or the extras changed. AGFAS_EXTRAS: extras to install, such as [dev,ray] (default: none). PYTHON:
# the interpreter. AGFAS_VENV: folder of the environment (default: .venv). Both paths are relative to the repository's
# folder.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.10 python3.14 python3; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "No Python from 3.10 to 3.14 was found. Install one, or name it: PYTHON=/path/to/python bash $0" >&2
  return 1
}

# Union of two lists of extras, such as "[dev]" and "[demo,dev]", each once: "[demo,dev]".
joined_extras() {
  local names
  names="$(printf '%s,%s' "$1" "$2" | tr -d '][ ' | tr ',' '\n' | sed '/^$/d' | LC_ALL=C sort -u | paste -s -d, -)"
  if [ -n "$names" ]; then printf '[%s]' "$names"; fi
}

make_environment() {
  local venv="${AGFAS_VENV:-.venv}" python stamp known extras="" wanted
  case "$venv" in
    /*) ;;
    *) venv="$PWD/$venv" ;;
  esac
  if [ ! -x "$venv/bin/python" ]; then
    python="$(find_python)"
    "$python" -m venv "$venv" || {
      echo "Python's venv module is missing. On Debian: apt-get install python3-venv" >&2
      return 1
    }
  fi
  # The stamp records the installed pyproject.toml and extras. Installed extras stay, even if AGFAS_EXTRAS omits them.
  stamp="$venv/agfas-installed"
  known="$(cat "$stamp" 2>/dev/null || true)"
  case "$known" in
    *"["*) extras="${known##*\[}" ;;
  esac
  extras="$(joined_extras "$extras" "${AGFAS_EXTRAS:-}")"
  wanted="$(cksum pyproject.toml) $extras"
  if [ "$known" != "$wanted" ]; then
    echo "Installing into $venv; the first time this downloads some gigabytes." >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --editable ".$extras"
    # On all cores; pip would do it on one. Some packages hold files of other Pythons.
    "$venv/bin/python" -m compileall -qq -j 0 "$venv/lib" || true
    printf '%s\n' "$wanted" > "$stamp"
  fi
  PATH="$venv/bin:$PATH"
  export PATH
}
