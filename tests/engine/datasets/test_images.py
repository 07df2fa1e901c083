"""Labelled images come in from the hub's Parquet, CIFAR's binary files and IDX files; what is wrong is refused with its row."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
import sys
import tarfile
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paceline.engine.datasets import prepare
from paceline.engine.datasets.hub import hub_address, offline_reason
from paceline.engine.errors import DataRefused, UsageError


def pixels(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image).save(content, "PNG")
    return content.getvalue()


def parquet(path: Path, images: list[bytes], labels: list[Any], names: tuple[str, str] = ("img", "label")) -> Path:
    """A file as the hub has it: images as a struct of bytes and path."""
    import pyarrow
    from pyarrow import parquet as files

    column = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    files.write_table(pyarrow.table({names[0]: column, names[1]: labels}), path)
    return path


def cifar(folder: Path, rows: int = 20, label: str = "label") -> tuple[Path, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    images = pixels(rows, (32, 32, 3))
    parquet(
        folder / "train-00000-of-00001.parquet", [png(image) for image in images], [row % 10 for row in range(rows)], ("img", label)
    )
    parquet(folder / "test-00000-of-00001.parquet", [png(image) for image in images[:5]], [3] * 5, ("img", label))
    return folder, images


def load(path: Path, name: str) -> np.ndarray:
    array: np.ndarray = np.load(path / f"{name}.npy", allow_pickle=False)
    return array


@pytest.mark.parametrize(("name", "label", "classes"), [("cifar10", "label", 10), ("cifar100", "fine_label", 100)])
def test_parquet_of_the_hub_becomes_bytes_with_their_classes(tmp_path: Path, name: str, label: str, classes: int) -> None:
    folder, images = cifar(tmp_path / "hub", label=label)
    plan, path = prepare(name, folder, tmp_path / "data")
    assert (load(path, "train_x") == images.transpose(0, 3, 1, 2)).all()
    assert load(path, "train_x").dtype == np.uint8
    assert load(path, "train_y").dtype == np.int64
    assert load(path, "validation_y").tolist() == [3] * 5
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["shape"], manifest["classes"], len(manifest["class_names"])) == ([3, 32, 32], classes, classes)
    assert np.allclose(manifest["mean"], images.mean(axis=(0, 1, 2)) / 255, atol=1e-6)
    assert np.allclose(manifest["std"], images.std(axis=(0, 1, 2)) / 255, atol=1e-6)
    assert (manifest["source"], plan.training_rows, plan.rows) == ("local", 20, 25)


def test_the_binary_version_in_its_archive_gives_the_same_arrays_as_parquet(tmp_path: Path) -> None:
    folder, images = cifar(tmp_path / "hub")
    _, expected = prepare("cifar10", folder, tmp_path / "data")
    records = {
        name: b"".join(bytes([label]) + image.transpose(2, 0, 1).tobytes() for label, image in zip(labels, images, strict=False))
        for name, labels in {"data_batch_1.bin": [row % 10 for row in range(20)], "test_batch.bin": [3] * 5}.items()
    }
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in records.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    _, path = prepare("cifar10", tmp_path / "cifar-10-binary.tar.gz", tmp_path / "data")
    for name in ("train_x", "train_y", "validation_x", "validation_y"):
        assert (load(path, name) == load(expected, name)).all()
    (tmp_path / "data_batch_1.bin").write_bytes(records["data_batch_1.bin"][:-1])
    with pytest.raises(DataRefused, match=r"data_batch_1\.bin: record 20: cut after 3072 of 3073 bytes"):
        prepare("cifar10", tmp_path / "data_batch_1.bin", tmp_path / "data")
    (tmp_path / "data_batch_2.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(DataRefused, match=r"record 1: label 10 is not a class from 0 to 9"):
        prepare("cifar10", tmp_path / "data_batch_2.bin", tmp_path / "data")


def test_pickled_batches_are_refused(tmp_path: Path) -> None:
    for name in ("data_batch_1", "cifar-10-python.tar.gz"):
        (tmp_path / name).write_bytes(b"cos\nsystem\n")
        with pytest.raises(DataRefused, match="pickled batches run code"):
            prepare("cifar10", tmp_path / name, tmp_path / "data")


def idx(path: Path, values: np.ndarray) -> None:
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def fashion(folder: Path) -> Path:
    folder.mkdir()
    for part, rows in (("train", 60), ("t10k", 10)):
        idx(folder / f"{part}-images-idx3-ubyte.gz", pixels(rows, (28, 28)))
        idx(folder / f"{part}-labels-idx1-ubyte", np.arange(rows, dtype=np.uint8) % 10)
    return folder


def test_idx_files_become_grey_images_and_a_part_of_them_has_all_classes(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion")
    _, path = prepare("fashion_mnist", folder, tmp_path / "data")
    assert (load(path, "train_x")[:, 0] == pixels(60, (28, 28))).all()
    assert load(path, "validation_x").shape == (10, 1, 28, 28)
    _, few = prepare("fashion-mnist", folder, tmp_path / "data", options={"train": 30, "validation": 4})
    assert (load(few, "train_x").shape[0], load(few, "validation_y").shape[0]) == (30, 4)
    assert len(set(load(few, "train_y").tolist())) > 7


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        ("cut", "values instead of 7840, as its header says"),
        ("text", "not an IDX file of bytes with 3 dimensions"),
        ("more labels", "11 labels for the 10 images"),
        ("label 10", r"t10k-labels-idx1-ubyte: row 3: label 10 is not a class"),
        ("no labels", "needs one idx3 and one idx1 file"),
        ("28x29", "images of 29x28 instead of 28x28"),
        ("half a gzip", "damaged"),
    ],
)
def test_broken_idx_files_are_named(tmp_path: Path, harm: str, text: str) -> None:
    folder = fashion(tmp_path / "fashion")
    images, labels = folder / "t10k-images-idx3-ubyte.gz", folder / "t10k-labels-idx1-ubyte"
    match harm:
        case "cut":
            images.write_bytes(gzip.compress(gzip.decompress(images.read_bytes())[:-3]))
        case "text":
            images.write_bytes(gzip.compress(b"not an image at all"))
        case "more labels":
            idx(labels, np.zeros(11, dtype=np.uint8))
        case "label 10":
            idx(labels, np.array([1, 2, 10, *[0] * 7], dtype=np.uint8))
        case "no labels":
            labels.unlink()
        case "28x29":
            idx(images, pixels(10, (28, 29)))
        case _:
            images.write_bytes(images.read_bytes()[:400])
    with pytest.raises(DataRefused, match=text):
        prepare("fashion-mnist", folder, tmp_path / "data")
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == []


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        ([b"\x89PNG\r\n\x1a\n broken"], [1], r"train\.parquet: row 3: a corrupt image"),
        ([None], [1], "row 3: no image bytes"),
        (["64x64"], [1], "row 3: an image of 64x64 instead of 32x32"),
        (["good"], [10], "row 3: label '10' is not a class from 0 to 9"),
        (["good"], [-1], "row 3: label '-1'"),
    ],
)
def test_a_bad_image_is_refused_with_file_and_row(tmp_path: Path, images: list[Any], labels: list[int], text: str) -> None:
    good = png(pixels(1, (32, 32, 3))[0])
    made = {"good": good, "64x64": png(pixels(1, (64, 64, 3))[0])}
    parquet(tmp_path / "train.parquet", [good, good, *(made.get(one, one) for one in images)], [1, 2, *labels])
    parquet(tmp_path / "test.parquet", [good], [1])
    with pytest.raises(DataRefused, match=text):
        prepare("cifar10", None, tmp_path / "data", files=[tmp_path / "train.parquet", tmp_path / "test.parquet"])
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("trials", [30, pytest.param(900, marks=pytest.mark.slow)])
def test_random_harm_to_a_file_is_refused_or_harmless_but_never_an_odd_error(tmp_path: Path, trials: int) -> None:
    """Each mutation of Parquet, PNG and IDX is refused in one line of ours, or gives whole images."""
    draw = random.Random(trials)
    folder, _ = cifar(tmp_path / "hub", rows=6)
    whole = {path: path.read_bytes() for path in [folder / "train-00000-of-00001.parquet"]}
    clothes = fashion(tmp_path / "fashion")
    whole |= {clothes / "train-labels-idx1-ubyte": (clothes / "train-labels-idx1-ubyte").read_bytes()}
    whole |= {clothes / "train-images-idx3-ubyte.gz": (clothes / "train-images-idx3-ubyte.gz").read_bytes()}
    reasons: list[str] = []
    for number in range(trials):
        victim = list(whole)[number % len(whole)]
        content = bytearray(whole[victim])
        for _ in range(draw.randint(1, 4)):
            place = draw.randrange(len(content))
            match draw.randrange(3):
                case 0:
                    content[place] ^= 1 << draw.randrange(8)
                case 1:
                    del content[place : place + draw.randint(1, 64)]
                case _:
                    content[place:place] = draw.randbytes(draw.randint(1, 16))
        victim.write_bytes(bytes(content))
        name, source = ("cifar10", folder) if victim.parent == folder else ("fashion-mnist", clothes)
        try:
            _, path = prepare(name, source, tmp_path / "data")
            assert load(path, "train_x").dtype == np.uint8
        except DataRefused as error:
            reasons.append(str(error))
        victim.write_bytes(whole[victim])
    assert len(reasons) > trials / 2
    assert not [reason for reason in reasons if "\n" in reason]
    assert not list((tmp_path / "data").glob(".preparing-*"))


@pytest.mark.parametrize("kind", ["tar", "zip", "link"])
def test_an_archive_that_reaches_outside_is_refused_and_writes_nothing_there(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("images.zip" if kind == "zip" else "images.tar.gz")
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as zipped:
            zipped.writestr("../../escaped.parquet", b"x")
    else:
        with tarfile.open(path, "w:gz") as archive:
            entry = tarfile.TarInfo("../escaped.parquet" if kind == "tar" else "train.parquet")
            entry.type, entry.linkname = (tarfile.REGTYPE, "") if kind == "tar" else (tarfile.SYMTYPE, "/etc/passwd")
            archive.addfile(entry, io.BytesIO(b""))
    with pytest.raises(DataRefused, match="no regular file" if kind == "link" else "would lie outside of the folder"):
        prepare("cifar10", path, tmp_path / "data")
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, "data"}


def test_generated_images_differ_by_seed_only_and_their_classes_can_be_told_apart(tmp_path: Path) -> None:
    options = {"train": 300, "validation": 100, "shape": "1x28x28"}
    one, path = prepare("synthetic_images", None, tmp_path, options=options)
    same, _ = prepare("synthetic-images", None, tmp_path, options={**options, "seed": 0})
    other, _ = prepare("synthetic-images", None, tmp_path, options={**options, "seed": 1})
    assert one.digest == same.digest != other.digest
    assert "generated" in one.source
    x, y = load(path, "train_x").reshape(300, -1).astype(float), load(path, "train_y")
    means = np.stack([x[y == label].mean(axis=0) for label in range(10)])
    judged = load(path, "validation_x").reshape(100, -1).astype(float)
    nearest = ((judged[:, None] - means) ** 2).sum(2).argmin(1)
    assert (nearest == load(path, "validation_y")).mean() > 0.5
    for wrong, text in (
        ({"shape": "7x7"}, "no shape '7x7'"),
        ({"classes": 1}, "of 1 classes"),
        ({"train": -1}, "not a whole number"),
    ):
        with pytest.raises(UsageError, match=text):
            prepare("synthetic-images", None, tmp_path, options=wrong)


# The hub ------------------------------------------------------------------------------------------------------------------


def test_offline_is_known_before_anything_is_imported() -> None:
    assert offline_reason({"HF_HUB_OFFLINE": "1"}) == "HF_HUB_OFFLINE is set"
    assert offline_reason({"HF_ENDPOINT": "http://127.0.0.1:1"}) == "no connection to 127.0.0.1:1: Connection refused"
    assert hub_address({}) == ("huggingface.co", 443)
    assert hub_address({"https_proxy": "http://proxy.lab:3128"}) == ("proxy.lab", 3128)
    assert hub_address({"HTTPS_PROXY": "proxy.lab:3128", "no_proxy": ".co"}) == ("huggingface.co", 443)
    assert hub_address({"HF_ENDPOINT": "http://mirror.lab:8080", "https_proxy": "http://proxy.lab"}) == ("mirror.lab", 8080)


def test_without_network_or_package_the_error_says_what_where_how_and_what_could_stand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(sys.modules, "datasets", None)  # as if it were not installed
    with pytest.raises(DataRefused, match=r"uoft-cs/cifar10.* need the package datasets.*HF_HUB_OFFLINE is set") as missing:
        prepare("cifar10", None, tmp_path / "data")
    assert "pip install 'paceline[hub]'" in str(missing.value)

    class Offline(types.ModuleType):
        config = types.SimpleNamespace(HF_HUB_OFFLINE=False)
        exceptions = types.SimpleNamespace(DatasetsError=RuntimeError)

        @staticmethod
        def load_dataset(*args: object, **options: object) -> object:
            raise ConnectionError("Couldn't reach 'uoft-cs/cifar10' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setitem(sys.modules, "datasets", Offline("datasets"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.ModuleType("huggingface_hub"))
    monkeypatch.setitem(sys.modules, "huggingface_hub.constants", types.ModuleType("huggingface_hub.constants"))
    with pytest.raises(DataRefused) as refusal:
        prepare("cifar10", None, tmp_path / "data")
    for part in ("uoft-cs/cifar10", str(tmp_path / "data/sources/cifar10"), "paceline data cifar10", "Parquet", "synthetic-images"):
        assert part in str(refusal.value)
    assert Offline.config.HF_HUB_OFFLINE
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.slow
def test_the_package_of_the_hub_gives_the_same_arrays_as_our_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory in the hub's layout stands for the hub: ``datasets`` loads both alike."""
    import paceline.engine.datasets.images.cifar10 as cifar10

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder, _ = cifar(tmp_path / "hub")
    _, expected = prepare("cifar10", folder, tmp_path / "data")
    source = cifar10.data_source
    monkeypatch.setattr(cifar10, "data_source", type(source)(source.name, source.load, source.options, hub=str(folder)))
    plan, path = prepare("cifar10", None, tmp_path / "data")
    assert "Hugging Face hub" in plan.source
    for name in ("train_x", "train_y", "validation_x", "validation_y"):
        assert (load(path, name) == load(expected, name)).all()
    assert os.environ["HF_HUB_OFFLINE"] == "1"
