"""The dataset card of an exported cue store, as the hub shows it."""

from __future__ import annotations

import json

from pipelines.cues.exchange.format import Listing

CARD_NAME, CARD_TAG = "README.md", "agfas-cues"

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
_SIZE_NAMES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "n>10M")


def card_of(listing: Listing) -> str:
    """Markdown with the hub's YAML header: what the cues are, what made them, and how they are read."""
    source = listing.identity["source"]
    height, width = listing.identity["image_size"]
    name = source.get("name", "unknown")
    timestep = f" at t = {source['timestep']}" if "timestep" in source else ""
    return f"""---
pretty_name: Cues {listing.store}
license: other
task_categories:
- image-classification
tags:
- face-anti-spoofing
- presentation-attack-detection
- {CARD_TAG}
size_categories:
- {_size_name(listing.count)}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*.parquet
---

# Cues {listing.store}

What {listing.count} faces would look like if they were real: each one restored by `{name}`{timestep}, {width} pixels
wide and {height} high, 8 bits, RGB. The anomalous cue of a face is the difference between its picture
and its restoration; the pictures themselves are not here.

These are pictures of faces. The terms of the dataset that they were made from hold for them too.

| column | type | what |
| --- | --- | --- |
| `key` | string | key of the face in its dataset |
| `reconstruction` | binary | the restored face, row by row, one byte a value |
| `shape` | 3 x int32 | height, width, channels |
| `residual_mean` | float32 | mean of face - restoration, both in [-1, 1] |
| `residual_std` | float32 | unbiased standard deviation of the same |

```python
import numpy as np
from datasets import load_dataset

row = load_dataset("THIS_DATASET", split="train")[0]
face = np.frombuffer(row["reconstruction"], np.uint8).reshape(row["shape"])
```

As a cue store again, with equal bytes: fetch the whole folder, then `agfas import-cues FOLDER CUES`, where CUES is the
folder of cue stores.

## What decides the bytes

The store's name is the fingerprint of this; `dataset` is the fingerprint of the faces.

```json
{json.dumps(listing.identity, indent=2, sort_keys=True)}
```
"""


def _size_name(count: int) -> str:
    return _SIZE_NAMES[sum(count >= size for size in _SIZES)]
