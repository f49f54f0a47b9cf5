"""Calibration: a one-class head and a threshold for a detector, from live faces before one's own camera.

`head` is the head and its file, `people` the live faces with their persons, `fit` the fit and the threshold, `collect`
how faces come from pictures, videos and datasets.
"""
