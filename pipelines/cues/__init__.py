"""The cue store, the job that fills it and the readers that turn it into a detector's input.

Import the modules directly: `shards` and `tasks` need numpy alone, `job`, `sources` and `reader` need torch.
"""
