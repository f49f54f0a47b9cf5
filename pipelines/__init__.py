"""The program. Importing anything of it forbids the libraries beneath to report on their use, before they are imported.

Processes that this one starts inherit the variables. One that the user has set keeps its value.
"""

import os

__version__ = "0.1.0"

QUIET = {
    # Its wheels send reports when they are imported, and store an identifier of the machine; diffusers imports it.
    "ORT_DISABLE_TELEMETRY": "1",
    # huggingface_hub, and transformers, diffusers and timm through it
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # datasets counts what is loaded, local folders included
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "RAY_USAGE_STATS_ENABLED": "0",
    # trackers that a training may be given; what they record is sent where their user says, reports on them nowhere
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
}
for _name, _value in QUIET.items():
    os.environ.setdefault(_name, _value)
