"""How much a calibration from live faces gives, and how many persons it takes; run by `scripts/calibration.py`."""
