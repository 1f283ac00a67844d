"""MLP: dense layers over the vectors of fields, side by side."""

import numpy as np
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.nn.dropout import OFF, Dropout
from palate.rank.mlp import MLPRanker
from palate.retrieval.tokens import tokens


def test_the_network_by_hand() -> None:
    rows = click_rows(100)
    model = MLPRanker(epochs=1, batch_size=50, dim=3, hidden=(7, 5)).fit(rows)
    encoded = model.encoder_.encode(rows.features, tokens)
    weights = {name: t.detach().numpy() for name, t in model.net_.state_dict().items()}
    with torch.no_grad():
        x = model.net_.table(encoded).flat.numpy()
        found = model.net_(encoded, OFF)[0].numpy()
    assert x.shape == (100, 6 * 3)
    for at in range(2):
        x = np.maximum(x @ weights[f"deep.layers.{at}.weight"].T + weights[f"deep.layers.{at}.bias"], 0)
    np.testing.assert_allclose(found, x @ weights["deep.last.weight"].T + weights["deep.last.bias"], atol=1e-5)


def test_dropout_is_drawn_from_the_given_generator_in_training_alone() -> None:
    rows = click_rows(60)
    model = MLPRanker(epochs=1, dropout=0.5, hidden=(16,)).fit(rows)
    encoded = model.encoder_.encode(rows.features, tokens)

    def drawn(seed: int) -> torch.Tensor:
        return model.net_(encoded, Dropout(0.5, torch.Generator().manual_seed(seed)))[0]

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    np.testing.assert_array_equal(model.predict(rows).values, model.predict(rows).values)


def test_batch_normalisation_answers_one_row_as_many() -> None:
    rows = click_rows(200)
    model = MLPRanker(epochs=2, batch_size=50, batch_norm=True, hidden=(16,)).fit(rows)
    whole = model.predict(rows).values
    np.testing.assert_allclose(model.predict(rows.slice(7, 8)).values[0], whole[7], atol=1e-6)
    assert any("norms" in name for name in model.net_.state_dict())


def test_a_last_batch_of_one_row_is_learnt_from() -> None:
    rows = click_rows(101)
    model = MLPRanker(epochs=2, batch_size=50, batch_norm=True, hidden=(8,)).fit(rows)
    assert np.isfinite(model.predict(rows).values).all()
