#!/usr/bin/env bash
# Run the whole chain on the built-in benchmark; print a table and the report's path. To resume, run it again.
#   bash scripts/quickstart.sh [--minutes N] [--output DIR] [key=value ...]
here="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# The absolute path of a folder named relative to the caller's directory; created if it is missing.
from_here() {
  case "$1" in
    "" | --*)
      echo "quickstart.sh: --output needs the folder to write to, for example --output runs/first" >&2
      return 2
      ;;
  esac
  cd "$here" && mkdir -p "$1" && cd "$1" && pwd
}

arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --output) folder="$(from_here "${2-}")"; arguments+=(--output "$folder"); shift 2 ;;
    --output=*) folder="$(from_here "${1#--output=}")"; arguments+=(--output "$folder"); shift ;;
    --help|-h) sed -n '2,3p' "scripts/quickstart.sh"; exit 0 ;;
    *) arguments+=("$1"); shift ;;
  esac
done

make_environment
# An empty array is unset to bash before 4.4, as on macOS.
exec agfas quickstart configs/quickstart.yaml ${arguments[@]+"${arguments[@]}"}
