"""The detectors: a library on timm.

`oanet.names`, `oanet.presets`, `oanet.registry` and `oanet.checks` import no torch.

* `oanet.model`      OA-Net, the detector of AG-FAS
* `oanet.cue`        the cue: the residual of a face and its restoration
* `oanet.detectors`  `build_detector(name, ...)`, `load_detector(folder)`
* `oanet.objectives` `build_objective(name, detector, num_domains, ...)`
"""
