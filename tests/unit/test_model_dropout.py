"""Dropout masks: random enough, the same wherever they are drawn, and applied as dropout should be."""

import pytest
import torch
import torch.nn.functional as F

from hocket.model.dropout import DropoutMasks, Site, add_dropped, dropout, keep_scale, levels, silu_dropout

SITE = Site("layers.0.conv", 0.1)
GOLDEN = [87, 113, 200, 18, 214, 33]


def uniform(key: int, site: str, rows: int = 16, frames: int = 256, channels: int = 128) -> torch.Tensor:
    """Bytes of a site, centred, in units of their standard deviation."""
    lanes = DropoutMasks(key, rows, frames).lanes(site, channels).double()
    return (lanes - 127.5) / ((256**2 - 1) / 12) ** 0.5


def correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean product times the root of the count: a standard normal if a and b are independent."""
    return float((a * b).mean()) * a.numel() ** 0.5


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.25, 0.5, 0.9])
def test_keeps_as_often_as_it_says_and_scales_by_the_exact_inverse(rate: float) -> None:
    keep = DropoutMasks(1, 32, 256).keep(Site("site", rate), 128).double()
    expected = 1 - levels(rate) / 256
    assert abs(expected - (1 - rate)) <= 0.5 / 256
    assert keep_scale(rate) * expected == 1.0
    deviation = (expected * (1 - expected) / keep.numel()) ** 0.5
    assert abs(float(keep.mean()) - expected) <= 4 * deviation


@pytest.mark.parametrize("rate", [-0.1, 0.999, 1.0, 1.5])
def test_refuses_rates_that_are_none(rate: float) -> None:
    with pytest.raises(ValueError, match="dropout rate"):
        levels(rate)


@pytest.mark.parametrize("key", [0, 1, 2**63 + 5, 2**64 - 1])
def test_all_bytes_are_equally_frequent_in_each_lane(key: int) -> None:
    lanes = DropoutMasks(key, 16, 512).lanes("site", 128).view(-1, 4)
    for lane in range(4):
        counts = torch.bincount(lanes[:, lane].long(), minlength=256).double()
        expected = lanes.shape[0] / 256
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert 255 - 5 * 510**0.5 < chi_square < 255 + 5 * 510**0.5


def test_neighbours_rows_frames_and_channels_are_uncorrelated() -> None:
    x = uniform(7, "site")
    for lag in (1, 2, 3, 4, 5, 7, 8, 16, 32, 64):
        assert abs(correlation(x[..., lag:], x[..., :-lag])) < 4.5, f"channels {lag} apart"
        assert abs(correlation(x[:, lag:], x[:, :-lag])) < 4.5, f"frames {lag} apart"
    for lag in (1, 2, 4, 8):
        assert abs(correlation(x[lag:], x[:-lag])) < 4.5, f"rows {lag} apart"


def test_no_structure_of_the_outer_product_shows() -> None:
    """Corners of rectangles of (frame, channel) words, lane by lane: no correlation of four."""
    x = uniform(11, "site").unflatten(-1, (-1, 4))
    for lane in range(4):
        y = x[..., lane]
        corners = y[:, :-1, :-1] * y[:, 1:, 1:], y[:, 1:, :-1] * y[:, :-1, 1:]
        assert abs(correlation(*corners)) < 4.5
        for other in range(lane):
            assert abs(correlation(y, x[..., other])) < 4.5


def test_rates_of_rows_and_columns_scatter_like_coins() -> None:
    """A frame or channel that keeps too much or too little would be a bad word in the product."""
    keep = DropoutMasks(5, 16, 512).keep(Site("site", 0.25), 512).double()
    for kept, count in ((keep.mean(-1), 512), (keep.mean((0, 1)), 16 * 512)):
        z = (kept - 0.75) / (0.75 * 0.25 / count) ** 0.5
        assert float(z.abs().max()) < 6
        assert 0.9 < float(z.std()) < 1.1


def test_no_period_shows_in_the_spectrum() -> None:
    line = uniform(3, "site", rows=1, frames=512, channels=256).flatten()
    power = torch.fft.rfft(line).abs()[1:-1] ** 2 / line.numel()
    assert float(power.max()) < 2.5 * torch.tensor(float(power.numel())).log().item()


def test_sites_steps_and_micro_batches_have_masks_of_their_own() -> None:
    x = uniform(1000, "layers.0.conv")
    others = [
        (1000, "layers.1.conv"),
        (1000, "layers.0.self_attn"),
        (1001, "layers.0.conv"),
        (1000 + 2**32, "layers.0.conv"),
    ]
    for key, site in others:
        assert abs(correlation(x, uniform(key, site))) < 4.5


def test_a_slice_is_drawn_alone_as_it_is_in_the_whole() -> None:
    whole = DropoutMasks(9, 6, 40).keep(SITE, 50)
    part = DropoutMasks(9, 2, 11, first_row=3, first_frame=17)
    for first, count in ((0, 50), (0, 7), (4, 8), (5, 1), (13, 30), (48, 2)):
        torch.testing.assert_close(
            part.keep(SITE, count, first), whole[3:5, 17:28, first : first + count], rtol=0, atol=0
        )


def test_the_mask_is_the_same_in_every_version() -> None:
    """Changing these numbers changes what every run with dropout learns: say so in the change log."""
    masks = DropoutMasks(0x0123456789ABCDEF, 2, 3)
    assert masks.lanes("golden", 6)[1, 2].tolist() == GOLDEN


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_functions_agree_with_their_formulas_and_gradients(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    masks = DropoutMasks(4, 2, 5)
    factor = masks.keep(SITE, 8).to(dtype) * keep_scale(SITE.rate)
    x, residual, grad = (torch.randn(2, 5, 8, dtype=dtype) for _ in range(3))
    pairs = [
        (lambda x, r: dropout(x, SITE, masks), lambda x, r: x * factor),
        (lambda x, r: silu_dropout(x, SITE, masks), lambda x, r: F.silu(x) * factor),
        (lambda x, r: add_dropped(r, x, 0.5, SITE, masks), lambda x, r: r + 0.5 * factor * x),
    ]
    tolerance = {torch.float64: 1e-14, torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    for ours, formula in pairs:
        results = []
        for function in (ours, formula):
            leaves = [t.clone().requires_grad_() for t in (x, residual)]
            y = function(*leaves)
            y.backward(grad)
            results.append([y, *(leaf.grad for leaf in leaves if leaf.grad is not None)])
        for mine, theirs in zip(*results, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


def test_without_masks_or_rate_nothing_is_dropped() -> None:
    x = torch.randn(1, 4, 8)
    masks = DropoutMasks(4, 1, 4)
    assert dropout(x, SITE, None) is x
    assert dropout(x, Site("site", 0.0), masks) is x
    torch.testing.assert_close(silu_dropout(x, Site("site", 0.0), masks), F.silu(x))
    torch.testing.assert_close(add_dropped(x, x, 0.5, SITE, None), 1.5 * x)
