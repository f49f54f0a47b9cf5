"""What a report says and shows; `pipelines.stages.report` writes it."""
