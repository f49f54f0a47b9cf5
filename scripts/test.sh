#!/usr/bin/env bash
# Install if needed, then check style, types and behaviour.
#   bash scripts/test.sh          everything that is not marked slow; under ten minutes on two cores
#   bash scripts/test.sh --all    the slow tests too
#   bash scripts/test.sh ARGS     further arguments go to pytest, such as -n 8 on a larger machine
# The tests run in random order in two processes; the seed of the order is printed first, and
# `--randomly-seed=SEED` repeats it.
AGFAS_EXTRAS="[dev]"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment

selection=(-m "not slow")
if [ "${1:-}" = "--all" ]; then
  selection=()
  shift
fi

ruff check .
ruff format --check .
# Types are checked beside the tests: it takes one core, and they leave some of two unused.
types="$(mktemp)"
mypy > "$types" 2>&1 &
checking=$!
trap 'kill "$checking" 2>/dev/null || true; rm -f "$types"' EXIT
status=0
# An empty array is unset to bash before 4.4, as on macOS.
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder ${selection[@]+"${selection[@]}"} "$@" || status=$?
wait "$checking" || status=$?
cat "$types"
exit "$status"
