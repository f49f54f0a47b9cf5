"""The detectors: a library on timm.

`oanet.names`, `oanet.presets`, `oanet.registry` and `oanet.checks` import no torch.

* `oanet.model`      OA-Net, the detector of AG-FAS
* `oanet.cue`        the cue: the residual of a face and its restoration
* `oanet.detectors`  `build_detector(name, ...)`, `load_detector(folder)`
* `oanet.objectives` `build_objective(name, detector, num_domains, ...)`
"""

import os

# Before timm imports huggingface_hub, and a published detector onnxruntime: both would send reports.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
