"""Target attention: fast forms against the plain definition; Dice by hand; sum pooling; padding; one history."""

import numpy as np
import pytest
import torch
from torch import Tensor

from palate.nn.target_attention import (
    Dice,
    PairNet,
    TargetAttention,
    activation_of,
    masked_softmax,
    one_history,
    target_attention_reference,
    weighted_sum,
)


def given(n: int = 5, t: int = 4, width: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, events, and which exist: rows of 0 to t events."""
    rng = np.random.default_rng(seed)
    mask = torch.from_numpy(np.arange(t) < rng.integers(0, t + 1, n)[:, None])
    mask[0], mask[1] = False, True
    history = torch.from_numpy(rng.normal(size=(n, t, width)).astype(np.float32)) * mask[:, :, None]
    return torch.from_numpy(rng.normal(size=(n, width)).astype(np.float32)), history, mask


def layer(softmax: bool = False, hidden: tuple[int, ...] = (6, 4), activation: str = "dice") -> TargetAttention:
    made = TargetAttention(3, hidden, np.random.default_rng(1), softmax=softmax, activation=activation)
    for module in made.modules():
        if isinstance(module, Dice):
            torch.nn.init.normal_(module.alpha, generator=torch.Generator().manual_seed(2))
            module.mean.fill_(0.2)
            module.variance.fill_(1.7)
    return made.eval()


@pytest.mark.parametrize("activation", ["dice", "prelu", "relu"])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("hidden", [(6,), (6, 4)])
def test_values_and_gradients_equal_the_plain_definition(softmax: bool, hidden: tuple[int, ...], activation: str) -> None:
    attention = layer(softmax, hidden, activation)
    target, history, mask = given()
    outs, slopes = [], []
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for form in (attention, lambda *x: target_attention_reference(attention, *x)):
        own = [x.clone().requires_grad_() for x in (target, history)]
        outs.append(form(*own, mask))
        slopes.append(torch.autograd.grad((outs[-1] * weight).sum(), [*own, *attention.parameters()]))
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-5, atol=1e-5)
    for fast, plain in zip(*slopes, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    assert (outs[0][0] == 0).all(), "a row without events"


@pytest.mark.parametrize("activation", ["dice", "prelu", "relu"])
@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("hidden", [(6,), (6, 4)])
def test_one_history_for_all_is_answered_as_many(softmax: bool, hidden: tuple[int, ...], activation: str) -> None:
    attention = layer(softmax, hidden, activation)
    target, history, mask = given(7)
    events, exists = history[1:2].expand(7, -1, -1), mask[1:2].expand(7, -1)
    exists = exists.clone()
    exists[:, 3] = False
    assert one_history(events) and not one_history(events.clone())
    with torch.no_grad():
        torch.testing.assert_close(attention(target, events, exists), attention(target, events.clone(), exists))
        none = torch.zeros_like(exists)
        assert (attention(target, events, none) == 0).all()
    assert attention.unit._one(target, events[0], exists[0]).shape == (7, 4, 1)


def test_constant_scores_are_sum_pooling() -> None:
    attention = layer()
    target, history, mask = given()
    with torch.no_grad():
        attention.unit.rest.last.weight.zero_()
        torch.testing.assert_close(attention(target, history, mask), history.sum(1))
        attention.softmax = True
        counts = mask.sum(1, keepdim=True).clamp(min=1)
        torch.testing.assert_close(attention(target, history, mask), history.sum(1) / counts)


def test_padding_and_the_order_of_events_do_not_matter() -> None:
    attention = layer()
    target, history, mask = given()
    with torch.no_grad():
        found = attention(target, history, mask)
        wider = torch.cat([history, torch.full((5, 6, 3), 7.0)], 1)  # what stands in the padding is not read
        exists = torch.cat([mask, torch.zeros(5, 6, dtype=torch.bool)], 1)
        torch.testing.assert_close(attention(target, wider, exists), found)
        turned = torch.arange(3, -1, -1)
        torch.testing.assert_close(attention(target, history[:, turned], mask[:, turned]), found)


def test_dice_by_hand() -> None:
    dice = Dice(2)
    with torch.no_grad():
        dice.alpha.copy_(torch.tensor([0.0, 0.5]))
    s = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    p = 1 / (1 + np.exp([1.0, -1.0]))  # one standard deviation below and above the mean
    by_hand = np.array([[1.0 * p[0], 2.0 * (p[0] + 0.5 * (1 - p[0]))], [3.0 * p[1], 6.0 * (p[1] + 0.5 * (1 - p[1]))]])
    torch.testing.assert_close(dice(s), torch.tensor(by_hand, dtype=torch.float32), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(dice.mean, torch.tensor([0.2, 0.4]))
    dice.eval()
    alone = dice(s[:1])
    torch.testing.assert_close(alone, dice(s)[:1])
    dice.train()
    assert dice(s[:1]).isfinite().all(), "a batch of one row uses the running means"


def test_dice_learns_from_events_alone() -> None:
    attention = TargetAttention(3, (6,), np.random.default_rng(1)).train()
    target, history, mask = given()
    attention(target, history, mask)
    first = attention.unit.activation.mean.clone()
    other = TargetAttention(3, (6,), np.random.default_rng(1)).train()
    other(
        target, torch.cat([history, torch.full((5, 9, 3), 50.0)], 1), torch.cat([mask, torch.zeros(5, 9, dtype=torch.bool)], 1)
    )
    torch.testing.assert_close(other.unit.activation.mean, first)


def test_pairs_without_product_take_contexts_of_any_length() -> None:
    net = PairNet(2, 3, (5,), 4, np.random.default_rng(0), difference=False, product=False, activation="relu").eval()
    _, history, mask = given()
    context = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = net(context, history, mask)
        joined = torch.cat([context[1], history[1, 2]])
        plain = net.rest.last(torch.relu(net.first(joined)))
        torch.testing.assert_close(found[1, 2], plain)
        assert found.shape == (5, 4, 4) and (found[0] == 0).all()
        events, exists = history[1:2].expand(5, -1, -1), mask[1:2].expand(5, -1)
        torch.testing.assert_close(net(context, events, exists), net(context, events.clone(), exists))
    with pytest.raises(ValueError, match="no difference or product"):
        PairNet(2, 3, (5,), 4, np.random.default_rng(0))


def test_softmax_over_events() -> None:
    shares = masked_softmax(
        torch.tensor([[0.0, float(np.log(3.0)), 9.0], [1.0, 1.0, 1.0]]), torch.tensor([[True, True, False], [False] * 3])
    )
    torch.testing.assert_close(shares, torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 0.0]]))
    events = torch.arange(12.0).view(2, 3, 2)
    torch.testing.assert_close(weighted_sum(shares, events)[0], 0.25 * events[0, 0] + 0.75 * events[0, 1])
    assert activation_of("relu")(3)(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]
