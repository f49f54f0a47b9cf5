"""Stress tests: kills, disks that are full or failing, flipped bits, two jobs at once.

The cue job alone, with random faces and restorations by arithmetic, so that it starts at once:

    worker     the job under test
    processes  starts it in processes
    checks     what must hold of its stores after any damage
    kills      SIGKILL at random moments over two processes, and before every single durable call
    damage     a full disk, a folder without write permission, a flipped bit

Every command, from pictures to a saved model, with networks so small that each takes half a second:

    jobs       the commands and their settings
    commands   runs them in a `warm` process that has imported everything
    faults     spoils one of their calls to the file system, in `faults.c` below Python, Rust and C++
    world      a clean run of each, and what it left
    killed     SIGKILL at random moments and inside writes, until they are done
    errors     an error in each of their calls
    flips      a flipped bit in each kind of file that they read
    together   two of them at once, and copies of what they write

    program    all of it, as a table; run by scripts/torture.py
"""
