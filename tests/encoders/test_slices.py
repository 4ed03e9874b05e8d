"""A 2D encoder on slices: which slices it sees, how they lie, and transformers' models without torchvision."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    ResNetConfig,
    ResNetModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from toolkit.encoders.slices import SliceEncoder
from toolkit.errors import CheckpointError, DataError

FUNCTIONS = """
seen = []


def corners(images):
    seen.append(images)
    return images.reshape(len(images), -1)[:, [0, -1]]
"""


@pytest.fixture
def corners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "made_up_slices.py").write_text(FUNCTIONS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    yield "made_up_slices:corners"
    sys.modules.pop("made_up_slices", None)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    shape = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    ViTModel(ViTConfig(**shape, image_size=16, patch_size=8), add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 4]})
    )
    return folder


PATCH = np.random.default_rng([1]).random((2, 1, 3, 4, 5)).astype(np.float32)  # right, anterior, superior


@pytest.mark.parametrize(
    ("spacing_mm", "stack", "top_left"),
    [
        ((1, 1, 5), 5, (0, 3)),  # axial: right is a column, the anterior at the top
        ((1, 1, 1), 5, (0, 3)),
        ((5, 1, 1), 3, (0, 4)),  # sagittal: anterior is a column, the superior at the top
        ((1, 5, 1), 4, (0, 4)),  # coronal
    ],
)
def test_slices_lie_across_the_thickest_voxels(
    corners: str, spacing_mm: tuple[float, float, float], stack: int, top_left: tuple[int, int]
) -> None:
    embedded = SliceEncoder(corners).embed(PATCH, spacing_mm)
    assert embedded.shape == (2, stack, 2) and embedded.dtype == np.float32
    axis = int(np.argmax(np.array(spacing_mm)[::-1]))
    slices = np.moveaxis(PATCH[:, 0], 1 + 2 - axis, 1)  # (N, S, and the two others)
    column, row = top_left
    np.testing.assert_array_equal(embedded[..., 0], slices[:, :, column, row])
    np.testing.assert_array_equal(embedded[..., 1], slices[:, :, -1, 0])


def test_of_many_slices_some_are_taken_evenly(corners: str) -> None:
    patch = np.zeros((1, 1, 2, 2, 21), np.float32)
    patch[0, 0, 0, -1] = np.arange(21)
    assert SliceEncoder(corners, max_slices=1).embed(patch, (1, 1, 1))[0, :, 0].tolist() == [10]
    assert SliceEncoder(corners, max_slices=5).embed(patch, (1, 1, 1))[0, :, 0].tolist() == [2, 6, 10, 14, 18]


def test_a_vision_model_sees_normalised_images_and_gives_its_class_token(vit: Path) -> None:
    embedded = SliceEncoder(str(vit)).embed(PATCH, (1, 1, 5))
    image = torch.from_numpy(PATCH[1, 0, :, ::-1, 2].T.copy())  # one axial slice, anterior at the top
    image = torch.nn.functional.interpolate(image.expand(1, 3, -1, -1), (16, 16), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.1, 0.2, 0.3], [1.0, 2.0, 4.0]))
    with torch.no_grad():
        expected = ViTModel.from_pretrained(vit, add_pooling_layer=False).eval()((image - mean) / std)
    np.testing.assert_allclose(embedded[1, 2], expected.last_hidden_state[0, 0].numpy(), atol=1e-5)
    assert "torchvision" not in sys.modules


def test_a_convolutional_model_gives_the_mean_over_its_map(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    embedded = SliceEncoder(str(tmp_path)).embed(PATCH, (1, 1, 5))
    assert embedded.shape == (2, 5, 6)
    image = torch.from_numpy(PATCH[0, 0, :, ::-1, 4].T.copy()).expand(1, 3, -1, -1)
    image = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = ResNetModel.from_pretrained(tmp_path).eval()((image - 0.5) / 0.5).pooler_output[0, :, 0, 0]
    np.testing.assert_allclose(embedded[0, 4], expected.numpy(), atol=1e-5)


SHAPE = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}


def test_a_transformer_without_a_class_token_gives_the_mean_over_its_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    SiglipVisionModel(SiglipVisionConfig(**SHAPE, image_size=16, patch_size=8)).save_pretrained(tmp_path)
    embedded = SliceEncoder(str(tmp_path)).embed(PATCH, (1, 1, 5))
    image = torch.from_numpy(PATCH[1, 0, :, ::-1, 2].T.copy()).expand(1, 3, -1, -1)
    image = torch.nn.functional.interpolate(image, (16, 16), mode="bilinear", antialias=True)
    with torch.no_grad():
        tokens = SiglipVisionModel.from_pretrained(tmp_path).eval()((image - 0.5) / 0.5).last_hidden_state
    np.testing.assert_allclose(embedded[1, 2], tokens[0].mean(dim=0).numpy(), atol=1e-5)


def test_a_masked_autoencoder_sees_all_of_an_image(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ViTMAEModel(ViTMAEConfig(**SHAPE, image_size=16, patch_size=4)).save_pretrained(tmp_path)
    encoder = SliceEncoder(str(tmp_path))
    first, second = (encoder.embed(PATCH, (1, 1, 5)) for _ in range(2))
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_the_digest_is_of_the_weights_wherever_they_lie(vit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in vit.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert SliceEncoder(str(copy)).digest == SliceEncoder(str(vit)).digest
    (copy / "preprocessor_config.json").unlink()
    assert SliceEncoder(str(copy)).digest != SliceEncoder(str(vit)).digest


def test_the_digest_changes_where_slices_are_embedded_otherwise(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = SliceEncoder(str(vit)).digest
    monkeypatch.setattr("toolkit.encoders.slices.VERSION", "another")
    assert SliceEncoder(str(vit)).digest != before


def test_folders_that_hold_no_vision_model(vit: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty: no model that transformers opens"):
        SliceEncoder(str(tmp_path / "empty"))
    shape = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 5}
    BertModel(BertConfig(**shape)).save_pretrained(tmp_path / "text")
    with pytest.raises(CheckpointError, match="text: is no model of images"):
        SliceEncoder(str(tmp_path / "text"))
    deeper = ViTModel.from_pretrained(vit, add_pooling_layer=False).config
    deeper.num_hidden_layers = 2
    (tmp_path / "part").mkdir()
    (tmp_path / "part/model.safetensors").write_bytes((vit / "model.safetensors").read_bytes())
    deeper.save_pretrained(tmp_path / "part")
    with pytest.raises(CheckpointError, match=r"part: lacks \d+ weights \(.*layer.*1.*\)"):
        SliceEncoder(str(tmp_path / "part"))


def test_two_channels_are_none_of_a_model_of_three(vit: Path) -> None:
    with pytest.raises(DataError, match="images of 2 channels for a model of 3"):
        SliceEncoder(str(vit)).embed(np.zeros((1, 2, 4, 4, 4), np.float32), (1, 1, 1))
