"""The De-fake Face Generator: what would this face look like if it were real?

A library on diffusers. It knows tensors, not files of pictures, datasets or command lines; import its modules
(`dfg.pipeline`, `dfg.identity`, `dfg.unet`, ...) directly, so that `import dfg` alone stays free of torch.
"""
