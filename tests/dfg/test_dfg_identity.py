import pytest
import torch
from torch.nn import functional as F

from dfg.identity import DEPTHS, IDENTITY_PRESETS, IdentityEncoder
from dfg.tokens import pad_tokens


def test_tokens_are_the_cells_of_the_map(encoder, faces):
    tokens = encoder(faces)
    assert tokens.shape == (4, encoder.num_tokens, encoder.token_dim) == (4, 49, 32)
    resized = F.interpolate(faces, (56, 56), mode="bilinear", align_corners=False)
    features = encoder.eval().trunk(resized)
    assert torch.equal(tokens[:, 3 * 7 + 5], features[:, :, 3, 5])
    assert not tokens.requires_grad


def test_golden_slice(encoder, faces):
    tokens = encoder(faces)[0, 24, :4]
    torch.testing.assert_close(tokens, torch.tensor([0.007695, 0.007860, -0.048249, -0.120809]), rtol=1e-3, atol=1e-4)


def test_embeddings_have_unit_length(encoder, faces):
    embedding = encoder.embed(faces)
    assert embedding.shape == (4, 16)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))


def test_a_face_does_not_see_its_batch_even_while_training(encoder, faces):
    encoder.train()
    assert torch.allclose(encoder(faces)[1:2], encoder(faces[1:2]), atol=1e-5)
    assert torch.allclose(encoder.embed(faces)[1:2], encoder.embed(faces[1:2]), atol=1e-5)
    assert encoder.training


def test_construction_is_seeded():
    first, again, other = (IdentityEncoder.from_preset("tiny", seed=s) for s in (0, 0, 1))
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_presets():
    with torch.device("meta"):
        encoders = {name: IdentityEncoder(**config) for name, config in IDENTITY_PRESETS.items()}
    assert {name: e.num_tokens for name, e in encoders.items()} == dict.fromkeys(IDENTITY_PRESETS, 49)
    assert encoders["tiny"].token_dim == 128
    assert encoders["iresnet100"].token_dim == 512
    with pytest.raises(ValueError, match="iresnet50"):
        IdentityEncoder.from_preset("iresnet51")


def test_save_and_load(encoder, faces, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = IdentityEncoder.from_pretrained(tmp_path)
    assert torch.equal(loaded(faces), encoder(faces))
    assert [p.suffix for p in sorted(tmp_path.iterdir())] == [".json", ".safetensors"]


@pytest.fixture
def small_presets(monkeypatch):
    small = {"layers": (1, 1, 1, 1), "widths": (4, 4, 8, 8), "embedding_dim": 6}
    monkeypatch.setitem(IDENTITY_PRESETS, "small", small)
    return "small"


def test_backbone_pth(small_presets, faces, tmp_path):
    source = IdentityEncoder.from_preset(small_presets, seed=3)
    torch.save(source.state_dict(), tmp_path / "backbone.pth")
    loaded = IdentityEncoder.from_backbone_pth(tmp_path / "backbone.pth", small_presets)
    assert torch.equal(loaded(faces), source(faces))
    assert torch.equal(loaded.embed(faces), source.embed(faces))


def test_backbone_pth_of_a_trunk_alone(small_presets, faces, tmp_path):
    source = IdentityEncoder.from_preset(small_presets, seed=3)
    state = {k: v for k, v in source.state_dict().items() if not k.startswith(("fc", "features"))}
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "trunk.pth")
    loaded = IdentityEncoder.from_backbone_pth(tmp_path / "trunk.pth", small_presets)
    assert torch.equal(loaded(faces), source(faces))
    with pytest.raises(ValueError, match="trunk alone"):
        loaded.embed(faces)


def test_backbone_pth_that_does_not_fit(small_presets, tmp_path):
    state = IdentityEncoder.from_preset(small_presets).state_dict()
    state["layer9.weight"] = state.pop("bn2.weight")
    state["conv1.weight"] = torch.zeros(5, 3, 3, 3)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"missing: bn2.weight; unexpected: layer9.weight; .*conv1.weight \(5"):
        IdentityEncoder.from_backbone_pth(tmp_path / "other.pth", small_presets)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="no state dict"):
        IdentityEncoder.from_backbone_pth(tmp_path / "list.pth", small_presets)


@pytest.mark.parametrize("wrap", ["state_dict_backbone", "state_dict", "model"])
def test_whole_checkpoints_and_data_parallel_names_load(small_presets, faces, tmp_path, wrap):
    source = IdentityEncoder.from_preset(small_presets, seed=3)
    parallel = {f"module.{name}": value for name, value in source.state_dict().items()}
    optimizer = torch.optim.SGD(source.parameters(), 0.1, momentum=0.9).state_dict()
    whole = {"epoch": 3, "global_step": 7, wrap: parallel, "state_optimizer": optimizer}
    torch.save(whole, tmp_path / "checkpoint.pt")
    loaded = IdentityEncoder.from_backbone_pth(tmp_path / "checkpoint.pt", small_presets)
    assert torch.equal(loaded(faces), source(faces))


def test_damaged_and_foreign_files_end_in_one_sentence(small_presets, tmp_path):
    source = IdentityEncoder.from_preset(small_presets, seed=3)
    torch.save(source.state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.pth").touch()
    (tmp_path / "garbage.pth").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    torch.save(source, tmp_path / "module.pth")
    for name in ("cut", "empty", "garbage", "page", "module"):
        with pytest.raises(ValueError, match=rf"{name}\.pth cannot be read safely \([^\n]+\)") as caught:
            IdentityEncoder.from_backbone_pth(tmp_path / f"{name}.pth", small_presets)
        assert "\n" not in str(caught.value)
    torch.save({}, tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match="no state dict"):
        IdentityEncoder.from_backbone_pth(tmp_path / "nothing.pth", small_presets)
    with pytest.raises(FileNotFoundError, match="no such file"):
        IdentityEncoder.from_backbone_pth(tmp_path / "absent.pth", small_presets)


def test_padding_adds_zeros_on_the_right():
    tokens = torch.randn(2, 49, 512, generator=torch.Generator().manual_seed(0))
    padded = pad_tokens(tokens, 768)
    assert padded.shape == (2, 49, 768)
    assert torch.equal(padded[..., :512], tokens)
    assert not padded[..., 512:].any()
    assert torch.equal(pad_tokens(tokens, 512), tokens)
    with pytest.raises(ValueError, match="512 values do not fit"):
        pad_tokens(tokens, 256)


# The network


def _count(depth: int, embedding_dim: int | None) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in IdentityEncoder(DEPTHS[depth], embedding_dim=embedding_dim).parameters())


def _expected_trunk(layers: tuple[int, ...]) -> int:
    """Counted from the description: BN-conv-BN-PReLU-conv-BN, a shortcut in the first unit of each stage."""
    widths = (64, 64, 128, 256, 512)
    total = 3 * 64 * 9 + 3 * 64 + 2 * 512
    for units, before, width in zip(layers, widths[:4], widths[1:], strict=True):
        for unit in range(units):
            entering = before if unit == 0 else width
            total += 2 * entering + entering * width * 9 + 2 * width + width + width * width * 9 + 2 * width
        total += before * width + 2 * width
    return total


@pytest.mark.parametrize("depth", DEPTHS)
def test_parameter_counts(depth):
    trunk = _expected_trunk(DEPTHS[depth])
    assert _count(depth, None) == trunk
    assert _count(depth, 512) == trunk + 25088 * 512 + 512 + 2 * 512


def test_published_counts_of_depth_18():
    assert _count(18, None) == 11_179_008
    assert _count(18, 512) == 24_025_600


def test_names_are_insightfaces():
    names = set(IdentityEncoder((2, 1, 1, 1)).state_dict())
    wanted = {
        "conv1.weight", "bn1.running_mean", "prelu.weight", "layer1.0.bn1.weight", "layer1.0.conv1.weight",
        "layer1.0.bn2.bias", "layer1.0.prelu.weight", "layer1.0.conv2.weight", "layer1.0.bn3.running_var",
        "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias", "layer1.1.conv2.weight",
        "layer4.0.bn3.weight", "bn2.weight", "fc.weight", "fc.bias", "features.running_mean",
    }  # fmt: skip
    assert wanted <= names
    assert "layer1.1.downsample.0.weight" not in names


def test_maps_and_embeddings_have_the_documented_shapes():
    network = IdentityEncoder((1, 1, 1, 1), (4, 4, 8, 8), embedding_dim=6).eval()
    assert network.trunk(torch.zeros(2, 3, 112, 112)).shape == (2, 8, 7, 7)
    assert network.embedding(torch.zeros(2, 3, 112, 112)).shape == (2, 6)
    small = IdentityEncoder((1, 1, 1, 1), (4, 4, 8, 8), 56, (1, 2, 2, 2), embedding_dim=6).eval()
    assert small.embedding(torch.zeros(2, 3, 56, 56)).shape == (2, 6)


def test_a_trunk_gives_no_embedding():
    trunk = IdentityEncoder((1, 1, 1, 1), (4, 4, 8, 8), embedding_dim=None)
    with pytest.raises(ValueError, match="trunk alone"):
        trunk.embedding(torch.zeros(2, 3, 112, 112))
    with pytest.raises(ValueError, match="four stages"):
        IdentityEncoder((1, 1, 1))


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (["bn1"], r"missing: bn1\.weight, bn1\.bias, bn1\.running_mean, bn1\.running_var\. Presets: tiny, iresnet18"),
        (["bn1", "bn2"], r"missing: bn1\.weight, bn1\.bias, bn1\.running_mean, bn1\.running_var and 4 more\. Presets"),
    ],
)
def test_long_lists_of_what_is_missing_are_cut(small_presets, tmp_path, layers, words):
    state = IdentityEncoder.from_preset(small_presets).state_dict()
    torch.save({n: v for n, v in state.items() if n.split(".")[0] not in layers}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=words):
        IdentityEncoder.from_backbone_pth(tmp_path / "other.pth", small_presets)


def test_the_embeddings_scale_is_fixed_and_every_stage_has_four_sizes(encoder):
    fixed = {name for name, values in encoder.named_parameters() if not values.requires_grad}
    assert fixed == {"features.weight"}
    for sizes in ({"layers": (1,) * 5}, {"widths": (4,) * 3}, {"strides": (2,) * 5}):
        with pytest.raises(ValueError, match="four stages"):
            IdentityEncoder(**sizes)
