"""The detector: a library on timm.

`oanet.names` and `oanet.presets` are plain Python and import at once; everything else needs torch.

* `oanet.cue`        what a cue is: the residual of a face and its restoration, and its normalisation
* `oanet.detectors`  `build_detector(name, ...)`, `load_detector(folder)`
* `oanet.objectives` `build_objective(name, detector, num_domains, ...)`
"""
