"""CIFAR-100: 60,000 photographs of 32x32 in 100 classes, from the hub, from Parquet files or from the binary version.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009. The coarse labels are left out.
"""

from __future__ import annotations

from typing import Any

from ..catalog import PART_OPTIONS, DataSource
from ..directory import DataDirectory
from ..source import Request
from .cifar_files import load_cifar
from .labelled import ImageFormat

_NAMES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""
_CLASSES = tuple(_NAMES.split())
_IMAGES = ImageFormat((3, 32, 32), _CLASSES, ("img", "image"), ("fine_label", "label"))


def load(request: Request, directory: DataDirectory) -> dict[str, Any]:
    """uint8 [n, 3, 32, 32] and int64 [n]; validation is the test part of 10,000."""
    return load_cifar(data_source, _IMAGES, 2, request, directory)


data_source = DataSource(
    "cifar100",
    load,
    PART_OPTIONS,
    hub="uoft-cs/cifar100",
    formats="Parquet of the hub, or cifar-100-binary.tar.gz",
    stand_in="synthetic-images",
)
