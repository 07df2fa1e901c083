"""Models and data sets by name: what fits is found, and what does not fit is refused with what would."""

from __future__ import annotations

from pathlib import Path

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.jobs.launch.job_file import read_job_file
from paceline.engine.jobs.launch.job_options import options_of, train_spec
from paceline.engine.specs import TrainSpec
from paceline.engine.workloads.datasets import DATASET_ALIASES, DATASETS
from paceline.engine.workloads.models import MODEL_ALIASES, MODELS
from paceline.engine.workloads.options import OPTIONS
from paceline.engine.workloads.pairs import PAIRS, choose, listed_parameters, pair_of
from paceline.engine.workloads.trainer import WORKLOADS

from tests.support.places import CHECKOUT


def test_every_model_is_one_script_of_at_most_80_lines_and_every_name_leads_somewhere() -> None:
    for model in MODELS.values():
        source = (CHECKOUT / "engine/script/examples" / model.script).read_text()
        assert len(source.splitlines()) <= 80, model.name
        assert choose(model.name, None).dataset.name == model.dataset
        assert set(model.sizes) | {name for row in model.per_dataset.values() for name in row} <= {*OPTIONS, "epochs", "batch"}
        assert set(model.per_dataset) | set(model.parameters) <= {name for name in DATASETS if pair_fits(model.name, name)}
    assert {choose(None, name).dataset.name for name in DATASETS} == set(DATASETS)
    assert set(MODEL_ALIASES.values()) <= set(MODELS)
    assert set(DATASET_ALIASES.values()) <= set(DATASETS)
    assert not set(PAIRS) & set(WORKLOADS)  # the names of the trainer stay its own


def pair_fits(model: str, dataset: str) -> bool:
    return f"{model}-{dataset}" in PAIRS


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_pair_is_taken_or_refused_with_what_would_fit(model: str, dataset: str) -> None:
    if MODELS[model].kind == DATASETS[dataset].kind:
        pair = pair_of(f"{model}-{dataset}".replace("-", "_").upper())
        assert pair is not None
        assert pair == choose(model, dataset)
        assert pair.arguments[:2] == ("--dataset", dataset)
        return
    with pytest.raises(UsageError, match=f"{model} reads .* cannot be trained on {dataset}") as refusal:
        choose(model, dataset)
    assert refusal.value.hint
    assert any(f"{model}-{name}" in PAIRS for name in DATASETS if f" {name}" in refusal.value.hint)


@pytest.mark.parametrize(
    ("model", "dataset", "name"),
    [
        ("simple_cnn", "synthetic_image", "simple-cnn-synthetic-images"),
        ("ResNet50", "CIFAR-10", "resnet50-cifar10"),
        ("gpt2", "shakespeare", "gpt2-small-text-file"),
        (None, "multi30k", "translator-multi30k"),
        ("lstm", None, "lstm-sp500"),
    ],
)
def test_spellings_of_other_projects_are_understood(model: str | None, dataset: str | None, name: str) -> None:
    assert choose(model, dataset).name == name


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no model 'resnet5'") as refusal:
        choose("resnet5", None)
    assert "did you mean resnet50?" in str(refusal.value)
    with pytest.raises(UsageError, match="no data set 'imbd'") as refusal:
        choose(None, "imbd")
    assert "did you mean imdb?" in str(refusal.value)
    with pytest.raises(UsageError, match="simple-cnn has no --heads") as refusal:
        choose("simple-cnn", "digits", {"heads": 4})
    assert refusal.value.hint == "it has --width, --dropout, --augment"
    with pytest.raises(UsageError, match="--hidden-dim 100 cannot be divided among 12 heads"):
        choose("bert-base", None, {"hidden_dim": 100})
    with pytest.raises(UsageError, match="no model and no data set"):
        choose(None, None)


def test_options_are_read_or_refused_by_their_range() -> None:
    assert OPTIONS["lr"].read("1e-3") == 0.001
    assert OPTIONS["layers"].read("3") == 3
    assert OPTIONS["schedule"].read("cosine") == "cosine"
    for name, text in (("lr", "nan"), ("lr", "-1"), ("layers", "0"), ("layers", "2.5"), ("dropout", "1"), ("schedule", "fast")):
        with pytest.raises(UsageError, match=OPTIONS[name].flag):
            OPTIONS[name].read(text)


def test_a_given_option_wins_over_the_pair_and_the_pair_over_the_model() -> None:
    plain, given = choose("simple-cnn", "digits"), choose("simple-cnn", "digits", {"epochs": 2, "lr": 0.5})
    assert (plain.value("epochs"), choose("simple-cnn", "cifar10").value("epochs")) == (12, 15)
    assert (given.value("epochs"), given.value("lr"), given.value("augment")) == (2, 0.5, 0)
    words = given.arguments
    assert words[words.index("--lr") + 1] == "0.5"
    assert choose("bert-base", "agnews").parameters == 109_485_316
    assert choose("bert-base", "agnews", {"layers": 12}).parameters == 109_485_316
    assert choose("bert-base", "agnews", {"layers": 2}).parameters is None


def job(**given: object) -> TrainSpec:
    values = {option.name: option.default_value for option in options_of("train")}
    return train_spec("train", {**values, **given})


def test_the_options_of_a_job_become_the_packaged_script_of_a_pair() -> None:
    spec = job(model="simple_cnn", dataset="digits", lr="0.5", epochs=2, global_batch_size=64, seed=3, precision="bf16")
    script = spec.script
    assert script is not None
    assert (spec.workload, script.path, script.is_packaged, script.data) == (
        "simple-cnn-digits",
        "simple_cnn.py",
        True,
        ("digits",),
    )
    words = dict(zip(script.args[::2], script.args[1::2], strict=True))
    assert words["--batch"] == "64"
    assert (words["--epochs"], words["--lr"], words["--seed"], words["--precision"]) == ("2", "0.5", "3", "bf16")
    assert job(workload="simple-cnn-digits").script == job(model="simple-cnn", dataset="digits").script
    assert job().script is None  # a workload of the trainer
    assert listed_parameters("simple-cnn-digits", script.args) == 94_410
    assert listed_parameters("simple-cnn-digits", job(model="cnn", dataset="digits", width=8).script.args) is None  # type: ignore[union-attr]  # a pair is a script


def test_options_that_a_job_does_not_have_are_refused() -> None:
    for given, text in (
        ({"lr": "0.1"}, "--lr is an option of models, and digits-cnn has its own"),
        ({"model": "mlp", "workload": "sp500-mlp"}, "--workload names a model and a data set already"),
        ({"model": "mlp", "accumulation": 2}, "--accumulation is for the workloads of the trainer, and mlp-sp500 is a script"),
        ({"model": "mlp", "heads": "2"}, "mlp has no --heads"),
    ):
        with pytest.raises(UsageError, match=text):
            job(**given)


def test_a_job_file_takes_the_options_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text('model = "lstm"\ndataset = "sp500"\nlr = 0.01\nlayers = 3\nschedule = "cosine"\n')
    assert read_job_file(tmp_path / "job.toml") == {
        "model": "lstm",
        "dataset": "sp500",
        "lr": "0.01",
        "layers": "3",
        "schedule": "cosine",
    }
