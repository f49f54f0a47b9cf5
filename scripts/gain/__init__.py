"""What `scripts/cue_gain.py` is made of: how good a generator is, what its cue gains, and the trend between them."""
