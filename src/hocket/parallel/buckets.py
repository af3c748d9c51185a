"""Gradient buckets: flat buffers that are filled by the backward pass and sent as a whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import torch

from hocket.core.protocols import GradBucket


def make_buckets(
    named: Iterable[tuple[str, torch.nn.Parameter]], bucket_mb: float, apart: Collection[str] = ()
) -> list[GradBucket]:
    """Group trainable parameters, last registered first (about the order of the backward pass).

    Those ``apart`` come after all others, in buckets of their own. Each ``parameter.grad`` becomes a view
    into its bucket's buffer, of the parameter's own dtype.
    """
    chosen = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    groups: list[list[tuple[str, torch.nn.Parameter]]] = []
    for kept_apart in (False, True):
        these = [each for each in reversed(chosen) if (each[0] in apart) == kept_apart]
        groups += _grouped(these, bucket_mb * 2**20)
    return [_bucket(index, group) for index, group in enumerate(groups)]


def _grouped(
    named: list[tuple[str, torch.nn.Parameter]], limit: float
) -> list[list[tuple[str, torch.nn.Parameter]]]:
    groups: list[list[tuple[str, torch.nn.Parameter]]] = []
    size = 0.0
    for name, parameter in named:
        num_bytes = parameter.numel() * parameter.element_size()
        other_kind = bool(groups) and groups[-1][0][1].dtype != parameter.dtype
        if not groups or other_kind or size + num_bytes > limit:
            groups.append([])
            size = 0.0
        groups[-1].append((name, parameter))
        size += num_bytes
    return groups


def _bucket(index: int, group: list[tuple[str, torch.nn.Parameter]]) -> GradBucket:
    parameters = [parameter for _, parameter in group]
    flat = torch.zeros(
        sum(parameter.numel() for parameter in parameters),
        dtype=parameters[0].dtype,
        device=parameters[0].device,
    )
    bucket = GradBucket(index, [name for name, _ in group], parameters, flat)
    for parameter, (_, view) in zip(parameters, bucket.views(flat), strict=True):
        parameter.grad = view
    return bucket


class Filling:
    """Fills buckets as the backward pass goes, and tells when they are complete, in their order.

    The first gradients after :meth:`discard` are copied into the buffers and later ones added: nothing is
    cleared beforehand, nor read to be added to zeros.

    A bucket is handed out only after all before it, so that every rank sends in the same order even
    when parameters became ready in another.
    """

    def __init__(self, buckets: list[GradBucket]) -> None:
        self._buckets = buckets
        self._missing: list[int] = []
        self._next = 0
        self._tell: Callable[[GradBucket], None] | None = None
        self._views: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        for bucket in buckets:
            for parameter, (_, view) in zip(bucket.parameters, bucket.views(bucket.flat), strict=True):
                self._views.append((parameter, view))
                parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    self._hook(bucket.index, view)
                )

    def discard(self) -> None:
        """What the buckets hold counts no longer; :meth:`complete` must follow."""
        for parameter, _ in self._views:
            parameter.grad = None

    def complete(self) -> None:
        """After a backward pass: clear the gradients of parameters that took no part in any."""
        for parameter, view in self._views:
            if parameter.grad is None:
                parameter.grad = view.zero_()

    def watch(self, tell: Callable[[GradBucket], None]) -> None:
        """From now to :meth:`finish`, call ``tell`` for every bucket once."""
        self._missing = [len(bucket.parameters) for bucket in self._buckets]
        self._next, self._tell = 0, tell

    def abandon(self) -> None:
        """The backward pass ended in its middle: hand out no more, and let gradients be views again."""
        self._tell = None
        self.complete()

    def finish(self) -> None:
        """The backward pass is over: hand out what is left (parameters that took no part)."""
        while self._tell is not None and self._next < len(self._buckets):
            self._hand_out()
        self._tell = None

    def _hook(self, index: int, view: torch.Tensor) -> Callable[[torch.Tensor], None]:
        def ready(parameter: torch.Tensor) -> None:
            grad = parameter.grad
            if grad is not None and grad is not view:
                parameter.grad = view.copy_(grad)
            if self._tell is None:
                return
            self._missing[index] -= 1
            while self._next < len(self._buckets) and self._missing[self._next] == 0:
                self._hand_out()

        return ready

    def _hand_out(self) -> None:
        bucket = self._buckets[self._next]
        self._next += 1
        assert self._tell is not None
        self._tell(bucket)
