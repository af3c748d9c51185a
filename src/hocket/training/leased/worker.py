"""A worker at its own pace: forked by the supervisor's crew, or a process that somebody else started.

The main thread computes what :mod:`hocket.training.leased.inbox` hands it. When the line to the
supervisor ends, the process says so in its log and ends.
"""

from __future__ import annotations

import argparse
import faulthandler
import math
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hocket.batching.settings import CostSettings
from hocket.comms.heartbeat import WAITING, Heartbeat
from hocket.comms.pulse import Pulse
from hocket.comms.rendezvous import Rendezvous
from hocket.comms.supervision import die_with_parent, outlive_parent
from hocket.comms.wire import Address, Line, Listener, Message, connect
from hocket.core import clock, seeds
from hocket.core import recipe as recipes
from hocket.core.errors import HocketError, WorkerLost
from hocket.core.layout import Layout
from hocket.core.protocols import LeasedStrategy, Replica, utterance_digest
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.hardware.device import choose_device, fix_arithmetic
from hocket.hardware.memory import keep_freed_memory
from hocket.model import workload
from hocket.parallel import apply
from hocket.sync.leased import LeasedContext, LeasedSettings
from hocket.sync.server import Refused
from hocket.training.folder import RunFolder
from hocket.training.holding import hold
from hocket.training.leased.inbox import Inbox, Loaded
from hocket.training.leased.state import spec_of
from hocket.training.parts import make_loader, make_model, make_plan, make_validation
from hocket.training.preflight import preflight
from hocket.training.recipe import TrainRecipe
from hocket.training.slow import SlowReplica
from hocket.training.validation import Validation

EXIT_SUPERVISOR_LOST = 77
"""Exit status of a worker whose supervisor is gone."""

_FIND_SECONDS = 300.0


def main() -> None:
    """Entry point: work until the supervisor says that it is over."""
    parser = argparse.ArgumentParser(prog="hocket.training.leased.worker")
    parser.add_argument("run", type=Path)
    parser.add_argument("rank", type=int)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor hears the keyboard
    faulthandler.enable()
    die_with_parent()
    status = run(RunFolder(arguments.run), arguments.rank)
    sys.stderr.flush()
    os._exit(status)


def run(
    folder: RunFolder, rank: int, local_rank: int | None = None, look: Callable[[], None] = lambda: None
) -> int:
    """Join the run as one worker; the exit status.

    ``local_rank`` chooses the device, ``rank`` by default. ``look`` is called while there is no supervisor,
    and raises when there will be none.
    """
    name = f"worker {rank} (pid {os.getpid()} on {os.uname().nodename})"
    place, line = Rendezvous.find(folder.root, name, _FIND_SECONDS, look)
    outlive_parent()  # from here on the line tells of its end, and this process of that
    try:
        line.send("worker", rank=rank, pid=os.getpid())
        Pulse(line)
        _Worker(folder, rank, line, place, name, rank if local_rank is None else local_rank).serve()
    except WorkerLost as error:
        _supervisor_lost(error)
    except HocketError as error:
        line.send("refused", message=error.message, hint=error.hint, exit_code=error.exit_code)
        threading.Event().wait()  # the supervisor ends this process once it has read that
    except Exception:
        traceback.print_exc()
        line.send("crashed", traceback=traceback.format_exc())
        threading.Event().wait()
    return 0


def _supervisor_lost(error: WorkerLost) -> None:
    print(
        f"{error}: this worker ends; `--resume` goes on from the last checkpoint", file=sys.stderr, flush=True
    )
    os._exit(EXIT_SUPERVISOR_LOST)


class _Worker:
    """Everything a worker computes with."""

    def __init__(
        self, folder: RunFolder, rank: int, line: Line, place: Rendezvous, name: str, local_rank: int
    ) -> None:
        self._line, self._name = line, name
        self._generation = 0
        recipe = recipes.load(folder.recipe, TrainRecipe)
        assert isinstance(recipe.sync, LeasedSettings)
        self._settings, self._place, self._patience = recipe.sync, place, recipe.faults.link_seconds
        line.set_patience(recipe.faults.link_seconds, sending=recipe.faults.link_seconds)
        self._inbox = Inbox(line, _supervisor_lost)
        self._heartbeat = Heartbeat(folder.heartbeats, rank, recipe.faults.silence_seconds)
        fix_arithmetic(recipe.threads)
        keep_freed_memory()
        device = choose_device(recipe.device, local_rank)
        tokens = common_tokens(recipe.corpora)
        corpora = CorpusMixture.open(recipe.corpora, "train")
        model, config, _, _ = make_model(recipe, tokens, fresh=True)
        # One bucket: it goes to other processes as a whole, and so do the weights.
        replica = apply(model, Layout(), device, precision=recipe.precision, bucket_mb=float("inf"))
        self._strategy: LeasedStrategy = self._settings.make_worker(
            LeasedContext(
                connect=self._connect,
                listen=self._accept,
                optimiser=spec_of(recipe.optimiser),
                max_grad_norm=recipe.optimiser.max_grad_norm,
                seed=recipe.seed,
                rank=rank,
            )
        )
        self._strategy.attach(replica)
        self._hold = recipe.debug.hold
        factor = recipe.debug.slow.get(rank, 1.0)
        self._replica: Replica = SlowReplica(replica, factor) if factor > 1 else replica
        wanted = recipe.batch.cost
        cost = wanted.model() if isinstance(wanted, CostSettings) else workload.cost(config)
        self._plan = make_plan(recipe, corpora, cost)
        self._loader = make_loader(recipe, corpora, tokens, config, self._plan)
        self._validation: Validation | None = make_validation(recipe, tokens, cost, None, device)
        self._inbox.read(self._plan, self._loader, self._settings.micro_batches_per_lease)

    def _connect(self, address: Address) -> Line:
        line = connect(address, self._place.secret, self._name, max_payload=self._place.max_payload)
        line.set_patience(self._patience, sending=self._patience)
        return line

    def _accept(self, on_line: Callable[[Line], None]) -> Listener:
        place = self._place
        return Listener(
            place.secret, self._name, on_line, host=self._line.own_host, max_payload=place.max_payload
        )

    def serve(self) -> None:
        """Do what comes in, until the end."""
        self._heartbeat.beat("preflight", 0)
        preflight(self._plan, self._loader, self._replica)
        self._line.send("ready", address=getattr(self._strategy, "address", None))
        while True:
            self._heartbeat.beat(WAITING)
            asked = clock.monotonic()
            item = self._inbox.next()
            waited = clock.monotonic() - asked
            if isinstance(item, Loaded):
                self._compute(item, waited)
            elif item.kind == "end":
                self._strategy.close()
                self._loader.close()
                self._heartbeat.close()
                return
            else:
                self._obey(item)

    def _compute(self, loaded: Loaded, waited: float) -> None:
        """One lease: take weights, compute, contribute, report."""
        lease, watch = loaded.lease, clock.Stopwatch()
        if lease.generation != self._generation:
            return
        hold(self._hold, lease.batch.step)
        try:
            self._heartbeat.beat("preparing", lease.batch.step)
            with watch.time("communication"):
                self._strategy.prepare(lease)
            self._heartbeat.beat("computing")
            with watch.time("compute"):
                results = self._replica.forward_backward(loaded.micro_batches)
            self._heartbeat.beat("contributing")
            with watch.time("communication"):
                contribution = self._strategy.contribute(lease, results)
        except Refused:
            return  # the run has gone back: the supervisor leases this again
        except WorkerLost as error:
            self._trouble(error)
            return
        watch.add("data", min(waited, loaded.seconds))
        watch.add("wait", max(0.0, waited - loaded.seconds))
        dropped = [entry for micro_batch in loaded.micro_batches for entry in micro_batch.dropped]
        loss = sum(float(result.loss) for result in results)
        ids = [utterance for micro_batch in loaded.micro_batches for utterance in micro_batch.ids]
        self._line.send(
            "done",
            step=lease.batch.step,
            number=lease.number,
            generation=lease.generation,
            loss=loss if math.isfinite(loss) else 0.0,
            grad_norm=contribution.grad_norm,
            staleness=contribution.staleness,
            skipped=contribution.skipped,
            num_micro_batches=len(lease.micro_batches),
            num_dropped=len(dropped),
            dropped=dropped,
            utterances=utterance_digest([seeds.key("utterance", utterance) for utterance in ids]),
            seconds=watch.take(),
            counts=self._counts(),
        )

    def _trouble(self, error: WorkerLost, generation: int | None = None) -> None:
        """Somebody cannot be reached: begin all lines anew when the supervisor says so."""
        told = self._generation if generation is None else generation
        self._generation = -1  # what is leased already is not computed
        self._strategy.close()
        self._line.send("trouble", reason=str(error), generation=told)

    def _counts(self) -> dict[str, float]:
        counts = self._strategy.tell()
        counts["bytes_sent"] += self._line.bytes_sent
        counts["bytes_received"] += self._line.bytes_received
        return counts

    def _obey(self, message: Message) -> None:
        """What the supervisor says between leases."""
        facts = message.facts
        match message.kind:
            case "join":
                try:
                    self._strategy.join(facts)
                    self._generation = facts["generation"]
                except WorkerLost as error:
                    self._trouble(error, facts["generation"])
            case "take":
                self._strategy.take(message.tensors, facts["num_updates"])
            case "rest":
                self._strategy.rest()
                self._line.send("rested", question=facts["question"])
            case "give":
                tensors, num_updates = self._strategy.give()
                self._line.send("given", tensors, num_updates=num_updates, question=facts["question"])
            case "validate":
                found = self._validate(facts["place"], facts["num_places"])
                self._line.send("validated", **found, question=facts["question"])

    def _validate(self, place: int, num_places: int) -> dict[str, Any]:
        """``sums`` of a part of the split, None where there is none; ``missed``: there are no weights now."""
        if self._validation is None:
            return {"sums": None, "missed": False}
        try:
            self._strategy.refresh()
        except Refused:
            return {"sums": None, "missed": True}
        except WorkerLost as error:
            if self._generation >= 0:  # else it was said, and nobody has told this worker to try again
                self._trouble(error)
            return {"sums": None, "missed": True}
        sums = self._validation.part(self._replica, (place, 0), (num_places, 1), self._heartbeat.beat)
        return {"sums": sums.tolist(), "missed": False}
