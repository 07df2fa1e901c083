"""A model with a data set: what fits together, what it is called, and the arguments of its script. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import UsageError
from .datasets import DATASET_ALIASES, DATASETS, DataSet
from .models import MODEL_ALIASES, MODELS, Model
from .options import OPTIONS, TRAINING_OPTIONS, Value


@dataclass(frozen=True, slots=True)
class Pair:
    """A model, a data set that fits, and the options that a person gave."""

    model: Model
    dataset: DataSet
    given: Mapping[str, Value] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name as a workload: ``resnet50-cifar10``."""
        return f"{self.model.name}-{self.dataset.name}"

    def value(self, option: str) -> Value | None:
        """The value of ``epochs``, ``batch``, ``lr`` or an option; None: the script's own default."""
        return self.given.get(option, self.model.default(self.dataset.name, option))

    @property
    def arguments(self) -> tuple[str, ...]:
        """Arguments of the script: the defaults of the pair and what a person gave."""
        names = dict.fromkeys(("epochs", "batch", "lr", *self.model.sizes, *self.given))
        words = ["--dataset", self.dataset.name]
        for name in names:
            words += ["--" + name.replace("_", "-"), str(self.value(name))]
        return tuple(words)

    @property
    def parameters(self) -> int | None:
        """Trainable parameters where the table knows them; None: they depend on an option or on the prepared data."""
        is_plain = all(
            self.model.default(self.dataset.name, name) == value for name, value in self.given.items() if name in _SHAPES
        )
        return self.model.parameters.get(self.dataset.name) if is_plain else None


_SHAPES = ("width", "hidden_dim", "layers", "heads", "length")
"""Options that change the number of parameters of some model."""


def listed_parameters(workload: str, arguments: Sequence[str]) -> int | None:
    """Trainable parameters that the table has for a pair whose script has these arguments; None: they have to be counted."""
    pair = pair_of(workload)
    if pair is None:
        return None
    words = dict(zip(arguments[::2], arguments[1::2], strict=False))
    sizes = {name: words.get(OPTIONS[name].flag) for name in _SHAPES if name in pair.model.sizes}
    is_plain = all(text is None or text == str(pair.value(name)) for name, text in sizes.items())
    return pair.parameters if is_plain else None


def fitting_datasets(model: Model) -> tuple[str, ...]:
    """Names of the data sets that a model can be trained on."""
    return tuple(dataset.name for dataset in DATASETS.values() if dataset.kind == model.kind)


def fitting_models(dataset: DataSet) -> tuple[str, ...]:
    """Names of the models that can be trained on a data set."""
    return tuple(model.name for model in MODELS.values() if model.kind == dataset.kind)


PAIRS: Mapping[str, tuple[str, str]] = {
    f"{model.name}-{dataset}": (model.name, dataset) for model in MODELS.values() for dataset in fitting_datasets(model)
}
"""Model and data set of every ready pair, by its name."""


def plain_name(word: str, aliases: Mapping[str, str]) -> str:
    """A name in our spelling."""
    name = word.lower().replace("_", "-")
    return aliases.get(name, name)


def find_model(word: str) -> Model:
    """The model of a name or alias. Raises UsageError."""
    name = plain_name(word, MODEL_ALIASES)
    if name not in MODELS:
        raise UsageError(f"there is no model {word[:60]!r}", hint=_known(name, MODELS))
    return MODELS[name]


def find_dataset(word: str) -> DataSet:
    """The data set of a name or alias. Raises UsageError."""
    name = plain_name(word, DATASET_ALIASES)
    if name not in DATASETS:
        raise UsageError(f"there is no data set {word[:60]!r}", hint=_known(name, DATASETS))
    return DATASETS[name]


def choose(model: str | None, dataset: str | None, given: Mapping[str, Value] | None = None) -> Pair:
    """The pair of a model and a data set; where one is None, what the other is usually trained with.

    ``given``: values of ``epochs``, ``batch`` and options that a person gave. Raises UsageError for an unknown name, for what does
    not fit, which names what would, and for an option that the model does not have.
    """
    if model is None and dataset is None:
        raise UsageError("no model and no data set is named", hint="such as --model simple-cnn --dataset digits")
    data = None if dataset is None else find_dataset(dataset)
    chosen = find_model(model if model is not None else data.model if data is not None else "")
    data = data or DATASETS[chosen.dataset]
    if data.kind != chosen.kind:
        reason = f"{chosen.name} reads {chosen.kind} and cannot be trained on {data.name}, which is {data.kind}"
        hint = f"{chosen.name} fits {', '.join(fitting_datasets(chosen))}; {data.name} fits {', '.join(fitting_models(data))}"
        raise UsageError(reason, hint=hint)
    pair = Pair(chosen, data, dict(given or {}))
    _check_options(pair)
    return pair


def pair_of(workload: str, given: Mapping[str, Value] | None = None) -> Pair | None:
    """The ready pair of a name such as ``resnet50-cifar10``; None where there is none. Raises UsageError as ``choose``."""
    name = workload.lower().replace("_", "-")
    return choose(*PAIRS[name], given) if name in PAIRS else None


def _check_options(pair: Pair) -> None:
    own = {"epochs", "batch", "seed", "precision", *(habit.name for habit in TRAINING_OPTIONS), *pair.model.sizes}
    for name in pair.given:
        if name not in own:
            sizes = ", ".join(OPTIONS[size].flag for size in pair.model.sizes)
            raise UsageError(f"{pair.model.name} has no {OPTIONS[name].flag}", hint=f"it has {sizes}")
    width, heads = pair.value("hidden_dim"), pair.value("heads")
    if isinstance(width, int) and isinstance(heads, int) and width % heads:
        raise UsageError(f"--hidden-dim {width} cannot be divided among {heads} heads", hint="choose a multiple of --heads")


def _known(word: str, known: Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return (f"did you mean {close[0]}? " if close else "") + "known: " + ", ".join(names)
