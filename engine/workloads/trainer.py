"""The workloads of Paceline's own trainer, with all that the centre and the ranks must agree on."""

from __future__ import annotations

from dataclasses import dataclass

from ..states import TaskKind

VOCABULARY = 20_000
"""Size of the vocabulary of the text workloads: word ids are below it, and 0 is padding."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, its task and the defaults with which it trains to a useful result."""

    name: str
    title: str
    """Short description for a screen."""
    task: TaskKind
    """``classification``: cross-entropy and accuracy; ``regression``: mean squared error."""
    parameters: int
    """Number of trainable parameters."""
    input_shape: tuple[int, ...]
    """Of one sample."""
    metric: str
    """Name of the validation metric: ``accuracy`` from 0 to 1, or ``mse`` in the scaled units of the data."""
    epochs: int
    global_batch_size: int
    learning_rate: float
    """Of Adam, for the default global batch size; independent of the shares."""
    emulated_rate: float
    """Samples per second of an emulated device of speed 1. With the embedded lab's speeds (27.8 together) and the default batch a
    balanced step takes about 400 ms: long enough that four processes on two cores measure the balance and not the scheduler. The
    batch is so large that rounding to whole samples costs the slowest device little: shares 176, 126, 41, 41 take 402 to 408 ms.
    The text workloads have smaller batches: on two cores their arithmetic takes 1 and 7 ms per sample of 20 words, so that one step
    of all four ranks is 0.13 and 0.34 s of processor time and stays below the pacing. Longer texts may exceed it."""
    max_gradient_norm: float | None = None
    """Norm to which the gradient of the global batch is clipped, after the sum over all ranks; None: no clipping."""
    is_text: bool = False
    """Whether a sample is a row of word ids (int32) instead of values (float32)."""
    is_bfloat16: bool = False
    """Whether it computes in bfloat16 where every device of the run supports it well; float32 otherwise."""


WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        Workload(
            name="digits-cnn",
            title="small CNN on 8x8 images of handwritten digits",
            task="classification",
            parameters=38_282,
            input_shape=(1, 8, 8),
            metric="accuracy",
            epochs=9,
            global_batch_size=384,
            learning_rate=0.01,
            emulated_rate=34.0,
        ),
        Workload(
            name="sp500-mlp",
            title="MLP that forecasts the next closing price from the last 60",
            task="regression",
            parameters=11_969,
            input_shape=(60,),
            metric="mse",
            epochs=12,
            global_batch_size=384,
            learning_rate=0.0003,
            emulated_rate=34.0,
        ),
        Workload(
            name="agnews-small",
            title="transformer of 2 layers that sorts news into 4 topics",
            task="classification",
            parameters=2_973_444,
            input_shape=(128,),
            metric="accuracy",
            epochs=4,
            global_batch_size=128,
            learning_rate=0.0005,
            emulated_rate=11.5,
            is_text=True,
        ),
        Workload(
            name="agnews-large",
            title="transformer of 4 layers that sorts news into 4 topics",
            task="classification",
            parameters=8_345_604,
            input_shape=(256,),
            metric="accuracy",
            epochs=3,
            global_batch_size=48,
            learning_rate=0.0002,
            emulated_rate=4.3,
            is_text=True,
        ),
    )
}
"""Every workload by its name on the command line."""


def parameters_of(workload: str) -> int | None:
    """Number of trainable parameters; None: this version does not know the workload."""
    return WORKLOADS[workload].parameters if workload in WORKLOADS else None
