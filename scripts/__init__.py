"""Programs of a clone, not installed."""

import pipelines  # noqa: F401  # before other libraries: it forbids them to report on their use
