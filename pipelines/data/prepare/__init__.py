"""The job behind `agfas prepare`: pictures and videos to a face dataset."""
