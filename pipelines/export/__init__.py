"""Trained detectors as folders without this program and torch: a graph, a face detector, and `predict.py`."""
