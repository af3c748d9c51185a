"""Training at every worker's own pace: a supervisor that leases micro-batches, and its workers.

The second driver beside :mod:`hocket.training.trainer`, for strategies whose workers do not take steps
together (``server``, ``gossip``, ``hogwild``). No collective is ever used: a worker that is lost is
not waited for, and not replaced.
"""
