"""A training run as progress: its events, turned into a bar, notes and lines."""

from __future__ import annotations

from collections import deque

from hocket.cli.progress import Progress
from hocket.core.events import Event
from hocket.reports.axes import number, percent
from hocket.reports.run import SECONDS_PER_FRAME, why_early
from hocket.reports.tables import workers

_WINDOW = 20


class TrainingView:
    """Shows events as they come."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._total: int | None = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._losses: deque[float] = deque(maxlen=_WINDOW)
        self._noise = ""

    def show(self, event: Event) -> None:
        """Show one event; kinds that a watcher need not know pass silently."""
        kind = event.get("event")
        if kind == "start":
            self._start(event)
        elif kind == "init":
            self._progress.say(f"weights of {event['source']}; head: {event['head']}")
        elif kind == "warning":
            self._progress.say(f"warning: {event['reason']}")
        elif kind == "step":
            self._step(event)
        elif kind == "validation":
            self._validation(event)
        elif kind == "noise_scale":
            if event["noise_seconds"] is not None:
                self._noise = f"  noise scale {number(event['noise_seconds'])} s"
        elif kind == "average" and event.get("wer") is not None:
            steps = ", ".join(f"{step:,}" for step in event["steps"])
            self._progress.say(f"mean of the weights after steps {steps}: WER {percent(float(event['wer']))}")
        elif kind == "early_stop":
            self._progress.say(f"step {int(event['step']):,}: stopping early: {why_early(event)}")
        elif kind == "checkpoint_failed":
            reason = str(event.get("reason", "")).strip().rpartition("\n")[2]
            self._progress.say(f"step {event['step']}: the checkpoint could not be written: {reason}")
        elif kind == "out_of_memory":
            self._out_of_memory(event)
        elif kind == "worker_lost":
            left = workers(int(event["workers_left"]))
            self._progress.say(f"{event['reason']}; {left} left, what it held is leased again")
        elif kind == "shard_lost":
            self._progress.say(f"{event['reason']}; going on from step {event['restored_from']}")
        elif kind == "restart":
            self._progress.say(f"starting the workers again: {event.get('reason', 'a worker was lost')}")

    def _start(self, event: Event) -> None:
        self._total = event.get("steps")
        self._recent.clear()
        first = int(event.get("step", 0))
        since = f", from step {first:,} on" if first else ""
        on = workers(int(event.get("workers", 1)))
        self._progress.say(f"training on {on}, {event.get('precision', '?')}{since}")
        for name, corpus in event.get("corpora", {}).items():
            self._progress.say(
                f"corpus {name}: {number(corpus['hours'])} h, weight {corpus['weight']:g}, "
                f"{percent(corpus['share'])} of the audio of an epoch"
            )
        self._progress.update("training", first, self._total)

    def _step(self, event: Event) -> None:
        if event.get("skipped"):
            self._progress.say(f"step {event['step']}: skipped, a loss or gradient is not finite")
        else:
            self._losses.append(float(event["loss"]))
        self._recent.append((float(event["time"]), int(event.get("num_frames", 0))))
        notes = []
        if self._losses:
            notes.append(f"loss {number(sum(self._losses) / len(self._losses))}")
        elapsed = self._recent[-1][0] - self._recent[0][0]
        if elapsed > 0:
            frames = sum(count for _, count in list(self._recent)[1:])
            notes.append(f"{number(frames * SECONDS_PER_FRAME / elapsed)} s of speech/s")
        self._progress.update("training", int(event["step"]) + 1, self._total, "  ".join(notes) + self._noise)

    def _out_of_memory(self, event: Event) -> None:
        for each in event["micro_batches"]:
            self._progress.say(
                f"step {event['step']}: rank {each['rank']} has too little memory for {each['utterances']} "
                f"utterances of {each['frames'] * SECONDS_PER_FRAME:g} s: the step is taken again in pieces"
            )
        if event.get("before_training"):
            self._progress.say("the largest micro-batches do not fit the memory: they are computed in pieces")

    def _validation(self, event: Event) -> None:
        parts = [f"step {int(event['step']):,}: development part:"]
        if event.get("loss") is not None:
            parts.append(f"loss {number(float(event['loss']))}")
        parts += [f"{name.upper()} {percent(float(event[name]))}" for name in ("wer", "cer") if name in event]
        if event.get("best"):
            parts.append("(the best so far)")
        self._progress.say("  ".join(parts))
        for name, scores in event.get("by_corpus", {}).items():
            self._progress.say(f"  {name}: WER {percent(scores['wer'])}  loss {number(scores['loss'])}")
