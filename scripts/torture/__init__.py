"""Stress tests of the cue job: kills, a full disk, folders without write permission, flipped bits.

    worker     the job under test: random faces and restorations by arithmetic, so that it starts at once
    processes  starts it in processes
    checks     what must hold of its stores after any damage
    kills      SIGKILL at random moments over two processes, and before every single durable call
    damage     a full disk, a folder without write permission, a flipped bit
    program    all of them, as a table; run by scripts/torture.py

Everything here needs NumPy alone.
"""
