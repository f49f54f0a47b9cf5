import pytest
import torch

from dfg.iresnet import DEPTHS, IResNet


def _count(depth: int, embedding_dim: int | None) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in IResNet(DEPTHS[depth], embedding_dim=embedding_dim).parameters())


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
    names = set(IResNet((2, 1, 1, 1)).state_dict())
    wanted = {
        "conv1.weight", "bn1.running_mean", "prelu.weight", "layer1.0.bn1.weight", "layer1.0.conv1.weight",
        "layer1.0.bn2.bias", "layer1.0.prelu.weight", "layer1.0.conv2.weight", "layer1.0.bn3.running_var",
        "layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias", "layer1.1.conv2.weight",
        "layer4.0.bn3.weight", "bn2.weight", "fc.weight", "fc.bias", "features.running_mean",
    }  # fmt: skip
    assert wanted <= names
    assert "layer1.1.downsample.0.weight" not in names


def test_maps_and_embeddings_have_the_documented_shapes():
    network = IResNet((1, 1, 1, 1), (4, 4, 8, 8), embedding_dim=6).eval()
    assert network.trunk(torch.zeros(2, 3, 112, 112)).shape == (2, 8, 7, 7)
    assert network(torch.zeros(2, 3, 112, 112)).shape == (2, 6)
    small = IResNet((1, 1, 1, 1), (4, 4, 8, 8), 56, (1, 2, 2, 2), embedding_dim=6).eval()
    assert small(torch.zeros(2, 3, 56, 56)).shape == (2, 6)


def test_a_trunk_gives_no_embedding():
    trunk = IResNet((1, 1, 1, 1), (4, 4, 8, 8), embedding_dim=None)
    with pytest.raises(ValueError, match="trunk alone"):
        trunk(torch.zeros(2, 3, 112, 112))
    with pytest.raises(ValueError, match="four stages"):
        IResNet((1, 1, 1))
