"""CLIP's two towers (Radford et al. 2021) from transformers: with published weights, or random ones of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModel

from oanet.checks import check_name

_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
VIT_B_16: dict[str, Any] = {
    "vision": {**_VISION, "image_size": 224, "patch_size": 16},
    "text": {**_TEXT, "vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 49407},
    "projection_dim": 512,
}
"""openai/clip-vit-base-patch16: 149,620,737 parameters, of which 85,799,424 are in the vision tower."""

# Options of each tower, by transformers' names; `projection_dim` is an option of both.
SIZES = {tower: (*VIT_B_16[tower], "hidden_act", "layer_norm_eps") for tower in ("vision", "text")}


def clip_config(clip: str | None, options: dict[str, Any] | None) -> CLIPConfig:
    """The sizes of both towers.

    Args:
        clip: hub id or folder of a CLIP; None for `VIT_B_16`.
        options: {vision: {...}, text: {...}, projection_dim: n}, which override `VIT_B_16`; not with `clip`.

    Raises:
        OSError: the CLIP does not exist or cannot be downloaded.
        ValueError: options together with `clip`, unknown options, or a model that is no CLIP.
    """
    if clip is None:
        return _sized(options or {})
    if options:
        raise ValueError(
            f"clip = {clip!r} determines the sizes; leave clip_options out (the preset tiny sets them), or leave clip"
            " out for random weights."
        )
    found, _ = _fetched(lambda: CLIPConfig.get_config_dict(clip), clip, "its config.json")
    if found.get("model_type") != "clip":
        raise ValueError(
            f"{clip!r} is a {found.get('model_type')!r}; a CLIP is needed, such as 'openai/clip-vit-base-patch16'."
        )
    return CLIPConfig.from_dict(found)


def sizes_of(config: CLIPConfig) -> dict[str, Any]:
    """The `clip_options` that give towers of the same sizes without `clip`."""
    towers = {"vision": config.vision_config, "text": config.text_config}
    chosen = {tower: {name: getattr(towers[tower], name) for name in names} for tower, names in SIZES.items()}
    return {**chosen, "projection_dim": config.projection_dim}


def build_clip(clip: str | None, config: CLIPConfig) -> CLIPModel:
    """Both towers, their projections and the logit scale, in float32; on the meta device without weights."""
    if clip is None or torch.empty(0).is_meta:
        return CLIPModel(config)

    def load() -> Any:
        return CLIPModel.from_pretrained(clip, dtype=torch.float32, output_loading_info=True)

    model, report = _fetched(load, clip, "its weights")
    if report["missing_keys"]:
        raise ValueError(
            f"The weights of {clip!r} lack {sorted(report['missing_keys'])[0]}: they belong to another model."
        )
    for tensor in model.parameters():  # transformers maps the file, which someone may replace or cut
        tensor.data = tensor.data.clone()
    # No weight file holds the positions' numbers, and transformers was seen once to leave them as the memory was.
    for embeddings in (model.vision_model.embeddings, model.text_model.embeddings):
        embeddings.position_ids.copy_(torch.arange(embeddings.position_ids.shape[-1]))
    return model


def build_vision_tower(clip: str | None, config: CLIPConfig) -> nn.Module:
    """The image tower: pixels (B, 3, S, S) -> `pooler_output` (B, width), the class token after its final norm."""
    if clip is not None:
        return build_clip(clip, config).vision_model
    tower = CLIPVisionModel(cast(CLIPVisionConfig, config.vision_config))
    return getattr(tower, "vision_model", tower)  # wrapped in some versions of transformers


def prompt_ids(clip: str | None, config: CLIPConfig, prompts: list[str]) -> Tensor:
    """Token ids of the prompts: start, words, end, padded with the end token.

    Without `clip` the word embeddings are random, so the vocabulary is simply the prompts' words.

    Returns:
        (P, max_position_embeddings) int64.

    Raises:
        OSError: the tokenizer of `clip` cannot be read.
        ValueError: words unknown to the tokenizer, a prompt longer than the tower's positions, a too small vocabulary.
    """
    sizes = sizes_of(config)["text"]
    size, longest = sizes["vocab_size"], sizes["max_position_embeddings"]
    if clip is None:
        rows = _word_ids(prompts, size)
    else:
        tokenizer = _fetched(lambda: CLIPTokenizer.from_pretrained(clip), clip, "its tokenizer")
        rows = tokenizer(prompts)["input_ids"]
        # Unknown words become the end token; a folder without tokenizer files gives a tokenizer that knows no word.
        if any(row.index(row[-1]) < len(row) - 1 for row in rows):
            raise ValueError(
                f"The tokenizer of {clip!r} does not know the prompts' words. Its folder must hold tokenizer.json, or"
                " vocab.json and merges.txt, beside the weights."
            )
    if max(len(row) for row in rows) > longest or max(max(row) for row in rows) >= size:
        raise ValueError(
            f"The text tower reads {longest} tokens and has a vocabulary of {size}; the prompts need"
            f" {max(len(row) for row in rows)} and {max(max(row) for row in rows) + 1}."
        )
    return torch.tensor([row + [row[-1]] * (longest - len(row)) for row in rows])


def text_length(ids: Tensor) -> int:
    """Of the longest prompt of (P, L), end token included: attention is causal, so that nothing after it counts."""
    return int((ids == ids[:, -1:]).int().argmax(dim=1).max()) + 1


def embed_text(model: CLIPModel, ids: Tensor) -> Tensor:
    """(P, L) -> (P, D): the text tower's output at the end token, projected, not normalised."""
    return model.text_projection(model.text_model(input_ids=ids).pooler_output)


def cosines(image: Tensor, text: Tensor) -> Tensor:
    """(B, D) and (C, D) -> (B, C), the cosine of each image with each text."""
    return F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T


def _sized(options: dict[str, Any]) -> CLIPConfig:
    for option in options:
        check_name("option of clip_options:", option, (*SIZES, "projection_dim"))
    towers = {}
    for tower, names in SIZES.items():
        for option in options.get(tower, {}):
            check_name(f"option of clip_options.{tower}:", option, names)
        towers[tower] = {**VIT_B_16[tower], **options.get(tower, {})}
    end = options.get("text", {}).get("eos_token_id", towers["text"]["vocab_size"] - 1)
    towers["text"] |= {"eos_token_id": end, "bos_token_id": towers["text"]["vocab_size"] - 2}
    width = options.get("projection_dim", VIT_B_16["projection_dim"])
    return CLIPConfig(text_config=towers["text"], vision_config=towers["vision"], projection_dim=width)


def _word_ids(prompts: list[str], vocab_size: int) -> list[list[int]]:
    """Words numbered from 1; as in CLIP, the two highest ids start and end a text."""
    words = [prompt.lower().split() for prompt in prompts]
    distinct = dict.fromkeys(word for text in words for word in text)
    number = {word: index for index, word in enumerate(distinct, start=1)}
    if len(number) + 3 > vocab_size:
        raise ValueError(
            f"vocab_size = {vocab_size}; the prompts have {len(number)} words, so at least {len(number) + 3} is needed."
        )
    return [[vocab_size - 2, *(number[word] for word in text), vocab_size - 1] for text in words]


def _fetched(fetch: Any, clip: str, what: str) -> Any:
    """The result of `fetch`; its errors become an OSError that says what to do."""
    try:
        return fetch()
    except (OSError, ValueError, TypeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = (
            "Check the folder" if Path(clip).is_dir() else "Use a folder with its files, or connect to the network once"
        )
        raise OSError(
            f"CLIP {clip!r} could not be opened: {what} cannot be loaded ({first[:200]}). {where}."
        ) from error
