"""Export of cue stores to a folder of parquet files with a dataset card, as the hub takes it, and import.

    export.json                        identity, keys and checksums; written last, read first
    README.md                          the dataset card
    data/cues-00000-of-00004.parquet   one file per shard: key, reconstruction, shape, residual_mean, residual_std

An imported store has the bytes of the exported one: the checksum of every shard is exported with it.
"""
