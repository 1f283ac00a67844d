"""DeepFM: a factorisation machine and dense layers on the same vectors."""

import numpy as np
import torch

from palate.contracts.conformance_ranker import click_rows
from palate.nn.dropout import OFF
from palate.nn.fields import pair_products
from palate.rank.deepfm import DeepFM
from palate.retrieval.tokens import tokens


def test_it_is_the_sum_of_its_parts() -> None:
    rows = click_rows(200)
    model = DeepFM(epochs=2, batch_size=64, dim=4, hidden=(8,)).fit(rows)
    encoded = model.encoder_.encode(rows.features, tokens)
    net = model.net_
    with torch.no_grad():
        vectors = net.table(encoded)
        deep = net.deep(vectors.flat, OFF)
        machine = net.main(encoded)[0] + pair_products(vectors.fields).sum(1, keepdim=True)
        torch.testing.assert_close(net(encoded, OFF)[0], machine + deep)
        net.deep.last.weight.zero_()
        net.deep.last.bias.zero_()
        torch.testing.assert_close(net(encoded, OFF)[0], machine)
    p = model.predict(rows).values[:, 0]
    np.testing.assert_allclose(np.log(p / (1 - p)), machine[:, 0].numpy(), atol=1e-4)
