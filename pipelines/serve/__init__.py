"""The server of `agfas serve`: pictures and videos in over HTTP, verdicts out as JSON.

One asyncio process speaks HTTP and loads no torch: `server` and `gate` bound what comes in, `forms` takes files out of
bodies, `app` has the paths, `dispatcher` hands files in batches to free workers. A `worker` is a process with the
model, which decodes and judges; a file that crashes or stalls a decoder costs one worker, which is replaced. No file
is written.
"""
