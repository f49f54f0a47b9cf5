#!/usr/bin/env bash
# The whole chain on the built-in benchmark; prints where the report is. Stopped and started again it goes on.
#   bash scripts/quickstart.sh [--minutes N] [--output DIR] [key=value ...]
here="$PWD"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

arguments=()
while [ $# -gt 0 ]; do
  case "$1" in
    --output) arguments+=(--output "$(cd "$here" && mkdir -p "$2" && cd "$2" && pwd)"); shift 2 ;;
    --help|-h) sed -n '2,3p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) arguments+=("$1"); shift ;;
  esac
done

make_environment
exec agfas quickstart configs/quickstart.yaml "${arguments[@]}"
