"""What a plan will cost, before anything is run: memory, operations, time and disk on a machine."""
