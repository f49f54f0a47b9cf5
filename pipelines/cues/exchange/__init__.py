"""Cue stores that travel: to a folder of parquet files with a dataset card, fit for the hub, and back.

    export.json                        identity, keys and checksums; written last, read first
    README.md                          the dataset card
    data/cues-00000-of-00004.parquet   one file per shard: key, reconstruction, shape, residual_mean, residual_std

What is imported has the bytes of what was exported: every shard's checksum travels with it.
"""
