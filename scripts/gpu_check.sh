#!/usr/bin/env bash
# Everything to run on a machine with a GPU, meant to take ten minutes: what the card computes is compared with the
# processor, what --dry-run predicts with what the card takes; a table of all checks comes last.
#   bash scripts/gpu_check.sh                 install if needed, then check the first GPU
#   bash scripts/gpu_check.sh --device cpu    the processor against itself, which tests the checks
# Exit code: 0 all is well, 1 a check failed, 2 there is no GPU or it is too small, so that nothing was checked.
AGFAS_EXTRAS="[dev]"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment
exec python scripts/gpu_check.py "$@"
