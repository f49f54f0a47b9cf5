"""One typed experiment: its configuration, the grid it may be part of, and where its artefacts are stored."""
