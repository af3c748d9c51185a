"""Putting a rank's trainer together from the recipe, and taking up a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.batching import BatchPlan, Part
from hocket.batching.future import Future
from hocket.batching.settings import CostSettings
from hocket.comms.heartbeat import Heartbeat
from hocket.comms.mesh import Mesh
from hocket.core import clock, events, files
from hocket.core import recipe as recipes
from hocket.core.cost import CostModel
from hocket.core.errors import CheckpointError, CorpusError
from hocket.core.protocols import Replica, SyncStrategy
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.loading import Loader
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.corpus.storage.recordings import Storage
from hocket.corpus.tokens import Tokens
from hocket.hardware.device import describe
from hocket.model import build, workload
from hocket.model.config import ModelConfig
from hocket.model.ctc import FastConformerCTC
from hocket.parallel import apply
from hocket.parallel.check import check
from hocket.planning.fit import fit_cost
from hocket.sync import SyncBase, SyncContext, make_strategy
from hocket.training import checkpoint_store
from hocket.training.averaging import Average, make_average
from hocket.training.ceiling import find_ceiling, measured_before
from hocket.training.checkpointer import Checkpointer, restore
from hocket.training.fine_tuning import Source, freeze
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.memory import MemoryGuard
from hocket.training.optimiser import make_optimiser
from hocket.training.progress import Progress
from hocket.training.rates import Rates
from hocket.training.recipe import TrainRecipe
from hocket.training.seat import Seat
from hocket.training.slow import SlowReplica
from hocket.training.trainer import Trainer
from hocket.training.validation import Validation


def assemble(
    recipe: TrainRecipe,
    folder: RunFolder,
    mesh: Mesh,
    device: torch.device,
    heartbeat: Heartbeat,
    *,
    resume: bool,
    starting: clock.Stopwatch | None = None,
) -> Trainer:
    """The trainer of this rank, at the run's last checkpoint when there is one to go on from.

    ``starting`` holds the seconds that starting took so far, by part, and gets those of this.
    """
    starting = starting or clock.Stopwatch()
    before, began = sum(starting.seconds.values()), clock.monotonic()
    here = began
    settings = recipe.sync
    assert isinstance(settings, SyncBase)  # the others have a driver of their own
    replicas, seat = mesh.along("dp_replicate"), Seat.of(mesh)
    tokens = common_tokens(recipe.corpora)
    corpora = CorpusMixture.open(recipe.corpora, "train")
    last = _last_checkpoint(folder, mesh) if resume else None
    model, config, begun_with, num_frozen = make_model(recipe, tokens, fresh=last is None)
    check(mesh.layout, config)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    replica = apply(
        model, mesh.layout, device, mesh=mesh, precision=recipe.precision, bucket_mb=settings.bucket_mb
    )
    starting.add("model", clock.monotonic() - began)
    recipe, cost = _settle_cost(recipe, folder, replica, workload.cost(config), mesh)
    began = clock.monotonic()
    plan = make_plan(recipe, corpora, cost)
    optimiser = make_optimiser(replica.held, recipe.optimiser)
    rates = Rates.of(recipe, plan)
    context = SyncContext(replicas, recipe.optimiser.max_grad_norm, rates.num_steps)
    factor = recipe.debug.slow.get(seat.world.rank, 1.0)
    if factor > 1:
        replica = SlowReplica(replica, factor)
    sync = make_strategy(settings, context, exact=recipe.numerics.exact)

    average = make_average(replica.held, recipe.ema)

    progress = Progress(fingerprint=plan.fingerprint(corpora.fingerprint))
    starting.add("plan", clock.monotonic() - began)
    if last is None:
        sync.attach(replica)
    else:
        with starting.time("checkpoint"):
            progress = _take_up(last, progress, replica, optimiser, sync, seat, average)

    attempt = 1 + max((int(event["attempt"]) for event in events.read(folder.events)), default=0)
    how = {
        "workers": seat.world.world_size,
        "precision": recipe.precision,
        "threads": recipe.threads,
        "machine": describe(),
    }
    known = measured_before(events.read(folder.events), how) if seat.leads else None
    with starting.time("matrix rate"):
        ceiling = find_ceiling(trained, config, recipe.precision, device, seat.world, known)
    seat.world.barrier()  # every rank has counted the attempts before the first event of this one
    journal = Journal(
        folder.events,
        attempt=attempt,
        leads=seat.leads,
        tensorboard=folder.root / "tensorboard" if recipe.tensorboard else None,
    )

    def on_checkpoint(step: int, failure: BaseException | None) -> None:
        if failure is None:
            journal.write("checkpoint", step=step)
        else:
            journal.write("checkpoint_failed", step=step, reason=str(failure)[-500:])

    memory = MemoryGuard(
        recipe.memory,
        replicas,
        workload.activations(config),
        device=device,
        can_repeat=recipe.can_repeat,
    )
    trainer = Trainer(
        recipe=recipe,
        folder=folder,
        seat=seat,
        plan=plan,
        corpora=tuple(member.name for member in corpora.members),
        loader=make_loader(recipe, corpora, tokens, config, plan),
        replica=replica,
        memory=memory,
        sync=sync,
        optimiser=optimiser,
        rates=rates,
        average=average,
        validation=make_validation(recipe, tokens, cost, seat, device),
        checkpointer=Checkpointer(folder.checkpoints, recipe.checkpoint, on_checkpoint),
        journal=journal,
        heartbeat=heartbeat,
        progress=progress,
        ceiling=ceiling,
        config=config,
    )
    starting.add("other", clock.monotonic() - here - (sum(starting.seconds.values()) - before))
    journal.write(
        "start",
        **how,
        step=progress.step,
        steps=trainer.num_steps,
        steps_per_epoch=plan.steps_per_epoch,
        layout=str(mesh.layout),
        micro_batches_per_step=recipe.batch.micro_batches_per_step,
        exact=recipe.numerics.exact,
        sync=recipe.sync.name,
        ema_decay=recipe.ema.decay,
        **rates.record(),
        no_noise_scale=recipe.no_noise_scale,
        num_parameters=num_parameters,
        num_frozen=num_frozen,
        num_utterances=len(corpora),
        corpora=shares_of(corpora),
        matrix_rate=round(ceiling.matrix_rate),
        starting={part: round(value, 3) for part, value in starting.take().items()},
    )
    if begun_with is not None:
        journal.write("init", **begun_with)
    return trainer


def make_model(
    recipe: TrainRecipe, tokens: Tokens, *, fresh: bool
) -> tuple[FastConformerCTC, ModelConfig, dict[str, Any] | None, int]:
    """The model, its full settings, what it begins with (when ``fresh``), and how much of it is frozen."""
    config = recipe.model.with_tokens(tokens.vocab_size, recipe.features.num_mel_bins)
    model = build(config, recipe.seed)
    begun_with = None
    if recipe.init is not None and fresh:
        begun_with = Source.find(recipe.init, [Path.cwd()]).take_over(model, tokens)
    return model, config, begun_with, freeze(model, recipe.freeze)


def make_plan(recipe: TrainRecipe, corpora: CorpusMixture, cost: CostModel) -> BatchPlan:
    """Who is learnt from when: the same in every process of a run."""
    return BatchPlan(
        [Part(member.index, member.weight, member.salt) for member in corpora.members],
        recipe.batch,
        cost,
        seed=recipe.seed,
        speed_percents=recipe.augment.speed_percents,
    )


def make_loader(
    recipe: TrainRecipe,
    corpora: CorpusMixture,
    tokens: Tokens,
    config: ModelConfig,
    plan: BatchPlan,
) -> Loader:
    """Of the training split, varied as the recipe says."""
    future = Future(plan, recipe.num_steps(plan))
    return Loader(
        corpora,
        tokens,
        recipe.features,
        recipe.augment,
        recipe.seed,
        recipe.loading,
        num_views=config.num_views,
        storage=Storage.open(corpora.stored, recipe.loading.storage, future),
    )


def make_validation(
    recipe: TrainRecipe,
    tokens: Tokens,
    cost: CostModel,
    seat: Seat | None,
    device: torch.device,
) -> Validation | None:
    """The validation of a recipe; None when there is nothing to validate on."""
    split = recipe.validation.split
    corpora = CorpusMixture.open(recipe.corpora, split, where_there=True)
    if not len(corpora):
        if recipe.validation.every_steps or recipe.validation.takes_best:
            folders = ", ".join(str(share.path) for share in recipe.corpora)
            raise CorpusError(
                f"{folders}: no split {split!r} to validate on",
                "Prepare the corpus with one, or set validation.every_steps to 0 and take to last.",
            )
        return None
    return Validation(
        corpora,
        tokens,
        Loader(
            corpora,
            tokens,
            recipe.features,
            None,
            recipe.seed,
            recipe.loading,
            storage=Storage.open(corpora.stored, recipe.loading.storage),
        ),
        cost,
        seat,
        batch_seconds=recipe.validation.batch_seconds,
        device=device,
    )


def shares_of(corpora: CorpusMixture) -> dict[str, dict[str, float]]:
    """Of several corpora: how much there is of each, and how much of an epoch it is; nothing of one alone."""
    if len(corpora.members) == 1:
        return {}
    samples = [int(member.index.num_samples.sum(dtype=np.int64)) for member in corpora.members]
    hours = [each / (3600 * SAMPLE_RATE) for each in samples]
    epoch = sum(there * member.weight for there, member in zip(hours, corpora.members, strict=True))
    return {
        member.name: {
            "weight": member.weight,
            "num_utterances": len(member.index),
            "hours": round(there, 4),
            "share": round(there * member.weight / epoch, 4),
        }
        for there, member in zip(hours, corpora.members, strict=True)
    }


def _settle_cost(
    recipe: TrainRecipe, folder: RunFolder, replica: Replica, of_model: CostModel, mesh: Mesh
) -> tuple[TrainRecipe, CostModel]:
    """The cost model that cuts. A measured one is fitted once, by one replica, and becomes a setting."""
    wanted = recipe.batch.cost
    if isinstance(wanted, CostSettings):
        return recipe, wanted.model()
    if wanted == "model":
        return recipe, of_model
    numbers = torch.zeros(5, dtype=torch.float64, device=replica.device)
    if mesh.coordinate("dp_replicate") == 0:
        numbers.copy_(torch.tensor(list(fit_cost(replica, recipe.features.num_mel_bins).as_dict().values())))
    mesh.world.broadcast(numbers, 0)
    a0, a, b, c, d = numbers.tolist()
    settled = CostSettings(a0=a0, a=a, b=b, c=c, d=d)
    recipe = recipe.model_copy(update={"batch": recipe.batch.model_copy(update={"cost": settled})})
    if mesh.world.rank == 0:
        files.write_text(folder.recipe, recipes.dump(recipe))
    return recipe, settled.model()


def _last_checkpoint(folder: RunFolder, mesh: Mesh) -> Path | None:
    """The newest checkpoint, as the leader sees it; None when there is none yet."""
    found = checkpoint_store.whole_checkpoints(folder.checkpoints) if mesh.world.rank == 0 else []
    device = mesh.device
    step = torch.tensor([checkpoint_store.step_of(found[-1]) if found else -1], device=device)
    mesh.world.broadcast(step, 0)
    number = int(step)
    return None if number < 0 else checkpoint_store.folder_for(folder.checkpoints, number)


def _take_up(
    checkpoint: Path,
    fresh: Progress,
    replica: Replica,
    optimiser: torch.optim.Optimizer,
    sync: SyncStrategy,
    seat: Seat,
    average: Average,
) -> Progress:
    saved = Progress.from_dict(checkpoint_store.read_progress(checkpoint))
    kept = restore(
        checkpoint,
        replica.held,
        optimiser,
        seat,
        per_replica_optimiser=sync.per_replica_optimiser,
        average=average,
    )
    if saved.fingerprint != fresh.fingerprint:
        raise CheckpointError(
            f"{checkpoint}: taken under another plan of batches",
            "The corpus, seed, batch or speed settings have changed; go on with those of its recipe.yaml.",
        )
    sync.attach(replica)
    sync.load_state_dict(kept)
    return saved
