#!/usr/bin/env bash
# Build the site of the documentation into site/; open site/index.html. A broken link ends it with exit code 1.
#   bash scripts/docs.sh            build
#   bash scripts/docs.sh --serve    build, show it at http://127.0.0.1:8000, and again after every change
AGFAS_EXTRAS="[docs]"
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment

export NO_MKDOCS_2_WARNING=1 # its theme announces another project with every build
case "${1:-}" in
  "") exec python -m mkdocs build --strict ;;
  --serve) exec python -m mkdocs serve --strict ;;
  *) sed -n '2,4p' scripts/docs.sh; exit 2 ;;
esac
