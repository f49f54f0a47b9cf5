"""Proof that the cue job cannot be broken: it is killed, starved of room, locked out and has its bits flipped.

    worker   the job that is tortured, over drawn faces with a source of arithmetic, so that it starts at once
    checks   what must hold of its stores after whatever happened
    kills    SIGKILL at random moments over two processes, and before every single durable call
    damage   a full disk, a folder that cannot be written, a flipped bit
    program  all of them in turn, as a table; run by scripts/torture.py

Everything here needs numpy alone.
"""
