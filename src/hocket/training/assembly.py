"""Putting a rank's trainer together from the recipe, and taking up a checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch

from hocket.batching.settings import CostSettings
from hocket.comms.heartbeat import STARTING, Heartbeat
from hocket.comms.mesh import Mesh
from hocket.core import clock, events, files
from hocket.core import recipe as recipes
from hocket.core.cost import CostModel
from hocket.core.errors import CheckpointError
from hocket.core.protocols import Replica, SyncStrategy
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.hardware.device import describe
from hocket.model import workload
from hocket.parallel import apply
from hocket.parallel.check import check
from hocket.planning.fit import fit_cost
from hocket.sync import SyncBase, SyncContext, make_strategy
from hocket.training import checkpoint_store
from hocket.training.averaging import Average, make_average
from hocket.training.ceiling import find_ceiling, measured_before
from hocket.training.checkpointer import Checkpointer, restore
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.memory import MemoryGuard
from hocket.training.optimiser import make_optimiser
from hocket.training.parts import make_loader, make_model, make_plan, make_validation, shares_of
from hocket.training.pauses import Pauses
from hocket.training.progress import Progress
from hocket.training.rates import Rates
from hocket.training.recipe import TrainRecipe
from hocket.training.recording import Recorder
from hocket.training.seat import Seat
from hocket.training.slow import SlowReplica
from hocket.training.speeds import Speeds
from hocket.training.trainer import Trainer


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
    heartbeat.beat(STARTING)
    with starting.time("matrix rate"):
        ceiling = find_ceiling(trained, config, recipe.precision, device, seat.world, known)
    seat.world.barrier()  # every rank has counted the attempts before the first event of this one
    heartbeat.beat(STARTING)
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
    loader = make_loader(recipe, corpora, tokens, config, plan)
    speeds = Speeds(
        recipe.workers.speeds,
        mesh.layout.dp_replicate,
        progress.step,
        recipe.loading.prefetch_steps + settings.steps_to_report,
    )
    trainer = Trainer(
        recipe=recipe,
        folder=folder,
        seat=seat,
        plan=plan,
        loader=loader,
        replica=replica,
        memory=memory,
        sync=sync,
        optimiser=optimiser,
        rates=rates,
        average=average,
        speeds=speeds,
        recorder=Recorder(
            recipe=recipe,
            seat=seat,
            plan=plan,
            corpora=tuple(member.name for member in corpora.members),
            loader=loader,
            rates=rates,
            speeds=speeds,
            ceiling=ceiling,
            progress=progress,
            journal=journal,
        ),
        pauses=Pauses(
            recipe=recipe,
            folder=folder,
            num_steps=rates.num_steps,
            seat=seat,
            replica=replica,
            sync=sync,
            optimiser=optimiser,
            average=average,
            validation=make_validation(recipe, tokens, cost, seat, device),
            checkpointer=Checkpointer(folder.checkpoints, recipe.checkpoint, on_checkpoint),
            journal=journal,
            heartbeat=heartbeat,
            progress=progress,
        ),
        journal=journal,
        heartbeat=heartbeat,
        progress=progress,
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
