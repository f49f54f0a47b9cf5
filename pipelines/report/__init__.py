"""Reads output folders and writes reports about them; imports no torch until a detector's pictures are made."""
