"""From anybody's pictures and videos to a face dataset: the job behind `agfas prepare`."""
