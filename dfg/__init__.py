"""The De-fake Face Generator: restores a face to what it would look like if it were real.

A library on diffusers. It works on tensors and knows no datasets, run folders or command lines.

    pipeline.py        DeFakePipeline: encode, add noise up to t, denoise conditioned on identity, decode
    identity.py        IdentityEncoder (iResNet); tokens.py: its tokens
    onnx_identity.py   the same from an ONNX graph; onnx_graph.py: reads and checks what somebody brings
    autoencoder.py     PatchAutoencoder, pixels <-> latents; taesd.py: TAESD's tiny autoencoders
    unet.py            U-Net presets and PreconditionedUNet; attention.py: cached cross-attention; speed.py: precision
    schedule.py        noise schedule and timesteps; samplers.py: DDIM and multistep solvers; noise.py: keyed streams
    objective.py       the denoising loss; prediction.py: epsilon, velocity, min-SNR; arcface.py: identity training
    baselines/         MemAE, Deep SVDD and AnoDDPM; a student of one call

Import the modules directly: `import dfg` alone does not import torch.
"""

import os

# Before diffusers imports onnxruntime, which would store an identifier of this machine and send reports.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
