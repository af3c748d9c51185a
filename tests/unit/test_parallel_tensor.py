"""What ranks that share channels or tokens find together, as threads of this process."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.comms.communicator import ThreadedCommunicator, run_threads
from hocket.core.held import Place
from hocket.model.ctc import ctc_losses, divergence, log_probs
from hocket.model.sharding import Split
from hocket.parallel.tensor import _split_layer_norm, place_of
from hocket.parallel.vocabulary import SplitVocabulary

NUM_TOKENS = 11
EDGES = (0, 3, 7, 11)
LENS = torch.tensor([9, 6, 9, 6])
TOKENS = torch.tensor([[1, 1, 8], [5, 0, 0], [1, 1, 8], [5, 0, 0]])
TOKEN_LENS = torch.tensor([3, 1, 3, 1])


def logits() -> Tensor:
    draw = torch.Generator().manual_seed(5)
    return 3 * torch.randn(4, 9, NUM_TOKENS, generator=draw, dtype=torch.float64)


def learnt(vocabulary: SplitVocabulary, x_RTV: Tensor) -> Tensor:
    log_probs_RTV = vocabulary.log_probs(x_RTV)
    losses_R = vocabulary.losses(log_probs_RTV, LENS, TOKENS, TOKEN_LENS)
    weights_R = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    return (losses_R * weights_R).sum() + 0.3 * vocabulary.divergence(log_probs_RTV, LENS)


def test_ctc_and_divergence_over_split_tokens_are_those_of_all() -> None:
    whole = logits().requires_grad_()
    lp = log_probs(whole)
    weights_R = torch.tensor([1.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    expected = (ctc_losses(lp, LENS, TOKENS, TOKEN_LENS) * weights_R).sum() + 0.3 * divergence(lp, LENS)
    (gradient,) = torch.autograd.grad(expected, whole)

    def work(ranks: ThreadedCommunicator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        start, stop = EDGES[ranks.rank], EDGES[ranks.rank + 1]
        own = logits()[..., start:stop].requires_grad_()
        vocabulary = SplitVocabulary(ranks, start, stop - start)
        loss = learnt(vocabulary, own)
        (found,) = torch.autograd.grad(loss, own)
        return loss.detach(), found, vocabulary.best(own.detach()), vocabulary.emissions(own, TOKENS)

    ranks = run_threads(3, work)
    for loss, _, best, emissions in ranks:
        torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=0.0)
        assert torch.equal(best, logits().argmax(-1))
        assert emissions.shape == (4, 9, TOKENS.shape[1] + 1), "no more than the text's emissions is gathered"
    torch.testing.assert_close(
        torch.cat([found for _, found, _, _ in ranks], -1), gradient, rtol=1e-11, atol=1e-12
    )


def test_a_text_that_cannot_be_aligned_is_an_infinite_loss() -> None:
    def work(ranks: ThreadedCommunicator) -> Tensor:
        own = logits()[..., EDGES[ranks.rank] : EDGES[ranks.rank + 1]]
        vocabulary = SplitVocabulary(ranks, EDGES[ranks.rank], own.shape[-1])
        return vocabulary.losses(vocabulary.log_probs(own), torch.tensor([3, 6, 4, 6]), TOKENS, TOKEN_LENS)

    for losses in run_threads(3, work):
        assert losses.isinf().tolist() == [True, False, False, False], "a repeat needs a blank in between"


def test_a_layer_norm_over_split_channels_is_that_over_all() -> None:
    draw = torch.Generator().manual_seed(2)
    norm = nn.LayerNorm(12).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(12, generator=draw))
    x = (1e4 + torch.randn(2, 5, 12, generator=draw, dtype=torch.float64)).requires_grad_()
    grad = torch.randn(2, 5, 12, generator=draw, dtype=torch.float64)
    expected = norm(x)
    grads = torch.autograd.grad(expected, (x, norm.weight, norm.bias), grad)

    def work(ranks: ThreadedCommunicator) -> list[Tensor]:
        own = slice(4 * ranks.rank, 4 * ranks.rank + 4)
        part = nn.LayerNorm(4).double()
        part.weight.data, part.bias.data = norm.weight.data[own].clone(), norm.bias.data[own].clone()
        mine = x.detach()[..., own].clone().requires_grad_()
        y = _split_layer_norm(part, ranks, mine)
        return [y.detach(), *torch.autograd.grad(y, (mine, part.weight, part.bias), grad[..., own])]

    ranks = run_threads(3, work)
    for number, whole in enumerate((expected.detach(), *grads)):
        together = torch.cat([found[number] for found in ranks], -1)
        torch.testing.assert_close(together, whole, rtol=1e-9, atol=1e-9)


def test_value_and_gate_are_split_each_by_itself() -> None:
    whole = torch.arange(24).view(12, 2)
    split = Split("*", "gated_channel", 0)
    places = [place_of(split, (12, 2), rank, 3) for rank in range(3)]
    for rank, place in enumerate(places):
        rows = [2 * rank, 2 * rank + 1, 6 + 2 * rank, 7 + 2 * rank]
        assert torch.equal(place.cut(whole), whole[rows])
        assert torch.equal(place.rows(1, 3).cut(whole), whole[rows[1:3]])
        assert place.rows(4, 4).cut(whole).shape == (0, 2)
    assert Place.whole(whole).rows(2, 5).cut(whole).tolist() == whole[2:5].tolist()


def test_glu_of_split_channels() -> None:
    x = torch.arange(12.0)
    place = place_of(Split("*", "gated_channel", 0), (12,), 1, 2)
    torch.testing.assert_close(F.glu(place.cut(x), 0), F.glu(x, 0)[3:])
