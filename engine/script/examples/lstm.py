"""The next price from the last 60, by an LSTM: ``python``, ``torchrun`` or ``paceline train`` starts it."""

import paceline
import torch
from torch import nn
from torch.nn import functional

options = paceline.options(__doc__, dataset="sp500", epochs=10, batch=64, lr=0.001, clip=1.0, hidden_dim=64, layers=2, dropout=0.0)


class RecurrentForecast(nn.Module):
    """The last price plus a change that is read from the last state; untrained it repeats the last price."""

    def __init__(self, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.change = nn.Linear(width, 1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last = x[:, -1:]
        states, _ = self.lstm((x - last).unsqueeze(2))
        change: torch.Tensor = self.change(states[:, -1])
        return (change + last).squeeze(1)


def build(options, facts) -> nn.Module:
    return RecurrentForecast(options.hidden_dim, options.layers, options.dropout)


def errors(run, model, loader, centre: float) -> dict[str, float]:
    """MSE, MAE and R2 of the model, and those of repeating the last price, which is hard to beat."""
    model.eval()
    own, persistence = paceline.ForecastSums(centre), paceline.ForecastSums(centre)
    with torch.no_grad():
        for x, y in loader:
            own.add(model(x), y)
            persistence.add(x[:, -1], y)
    model.train()
    return own.metrics(run) | {f"persistence_{name}": value for name, value in persistence.metrics(run).items()}


def main() -> None:
    run = paceline.init(seed=options.seed, checkpoint=options.checkpoint or None)
    training, validation, test = paceline.dataset(options.dataset, "train", "validation", "test")
    model = run.wrap(build(options, paceline.manifest(options.dataset)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    loader = run.loader(training, options.batch, shuffle=True)
    validation_loader, test_loader = run.loader(validation, 512), run.loader(test, 512)
    update = paceline.Update(run, model, optimizer, loader.steps(options.epochs), options)
    results = paceline.Results(run, options)
    run.keep(model=model, optimizer=optimizer, update=update, results=results)

    for _ in run.epochs(options.epochs):
        for x, y in loader:
            with update.precision():
                loss = functional.mse_loss(model(x), y)
            update(loss)
        results.epoch(loader, **errors(run, model, validation_loader, float(validation.y.mean())))
    last = errors(run, model, test_loader, float(test.y.mean()))  # once, and nothing is chosen by it
    run.log(**{f"test_{name}": value for name, value in last.items()})


if __name__ == "__main__":
    main()
