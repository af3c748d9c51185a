"""A run without collectives, put together: the supervisor in this process, workers in their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from hocket.batching.settings import CostSettings
from hocket.comms.wire import LOOPBACK
from hocket.core import events, files
from hocket.core import recipe as recipes
from hocket.core.errors import CheckpointError
from hocket.core.layout import Layout
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.hardware.device import describe
from hocket.model import workload
from hocket.parallel import apply
from hocket.planning.fit import fit_cost
from hocket.sync.gossip import GossipSettings
from hocket.sync.leased import LeasedSettings
from hocket.sync.server import ServerSettings
from hocket.training import checkpoint_store
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.leased.crew import Crew, Elsewhere, Process, Switchboard
from hocket.training.leased.keepers import Keeper, Memory, Neighbours, Shards
from hocket.training.leased.state import Template
from hocket.training.leased.supervisor import Supervisor
from hocket.training.parts import make_model, make_plan, shares_of
from hocket.training.progress import Progress
from hocket.training.recipe import TrainRecipe
from hocket.training.result import write_result


def supervise(
    folder: RunFolder,
    recipe: TrainRecipe,
    workers: int,
    *,
    host: str = LOOPBACK,
    spawn: Callable[[int], Elsewhere] | None = None,
) -> None:
    """Run to the end, or to a request to stop; goes on from the last checkpoint when there is one.

    Listens on ``host``. ``spawn`` names workers that others start; without it they are started here.
    """
    with closing(Crew(recipe.threads)) as crew:
        if spawn is None:
            crew.begin()
        _supervise(folder, recipe, workers, crew, host, spawn)


def _supervise(
    folder: RunFolder,
    recipe: TrainRecipe,
    workers: int,
    crew: Crew,
    host: str,
    spawn: Callable[[int], Elsewhere] | None,
) -> None:
    settings = recipe.sync
    assert isinstance(settings, LeasedSettings)
    torch.set_num_threads(recipe.threads)
    for old in folder.heartbeats.glob("*"):
        old.unlink(missing_ok=True)
    checkpoints = checkpoint_store.whole_checkpoints(folder.checkpoints)
    tokens = common_tokens(recipe.corpora)
    corpora = CorpusMixture.open(recipe.corpora, "train")
    model, config, begun_with, num_frozen = make_model(recipe, tokens, fresh=not checkpoints)
    cpu = torch.device("cpu")
    replica = apply(model, Layout(), cpu, precision=recipe.precision, bucket_mb=float("inf"))
    if recipe.batch.cost == "measured":
        settled = CostSettings(**fit_cost(replica, recipe.features.num_mel_bins).as_dict())
        recipe = recipe.model_copy(update={"batch": recipe.batch.model_copy(update={"cost": settled})})
        files.write_text(folder.recipe, recipes.dump(recipe))
    template = Template(replica, recipe.optimiser)
    begun = [tensor.clone() for tensor in template.state.tensors]
    wanted = recipe.batch.cost
    cost = wanted.model() if isinstance(wanted, CostSettings) else workload.cost(config)
    plan = make_plan(recipe, corpora, cost)
    fingerprint = plan.fingerprint(corpora.fingerprint)

    def take_up() -> Progress:
        found = checkpoint_store.whole_checkpoints(folder.checkpoints)
        if found:
            return _take_up(found[-1], template, fingerprint)
        for tensor, first in zip(template.state.tensors, begun, strict=True):
            tensor.copy_(first)
        template.state.num_updates = 0.0
        return Progress(fingerprint=fingerprint)

    progress = take_up()
    attempt = 1 + max((int(event["attempt"]) for event in events.read(folder.events)), default=0)
    logs = folder.logs / f"attempt-{attempt}"
    journal = Journal(
        folder.events,
        attempt=attempt,
        leads=True,
        tensorboard=folder.root / "tensorboard" if recipe.tensorboard else None,
    )
    keeper = _keeper(recipe, folder, logs, crew)
    switchboard = Switchboard(
        folder.root,
        max_payload=template.max_payload,
        patience=recipe.faults.link_seconds,
        host=host,
    )
    supervisor = Supervisor(
        recipe,
        folder,
        plan=plan,
        corpora=corpora,
        template=template,
        keeper=keeper,
        switchboard=switchboard,
        journal=journal,
        progress=progress,
        go_back=take_up,
    )
    journal.write(
        "start",
        step=progress.step,
        steps=supervisor.num_steps,
        steps_per_epoch=plan.steps_per_epoch,
        workers=workers,
        layout=str(Layout(dp_replicate=workers)),
        micro_batches_per_step=recipe.batch.micro_batches_per_step,
        precision=recipe.precision,
        exact=False,
        sync=settings.name,
        **supervisor.rates.record(),
        no_noise_scale=recipe.no_noise_scale,
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        num_frozen=num_frozen,
        num_utterances=len(corpora),
        corpora=shares_of(corpora),
        machine=describe(),
    )
    if begun_with is not None:
        journal.write("init", **begun_with)

    def start(rank: int) -> Process:
        return crew.start(f"worker {rank}", "worker", [str(folder.root), str(rank)], logs / f"worker-{rank}")

    finished = supervisor.run(spawn or start, workers)
    summary = {"steps": supervisor.progress.step}
    if finished:
        fairness = supervisor.fairness.as_dict()
        summary = write_result(
            folder,
            recipe,
            model,
            supervisor.progress,
            workers=workers,
            num_steps=supervisor.num_steps,
            imbalance=None,
            leases=fairness,
            seconds_by_rank=supervisor.fairness.seconds_by_rank(workers),
        )
    journal.write("end", finished=finished, **summary)
    journal.close()


def _take_up(checkpoint: Path, template: Template, fingerprint: str) -> Progress:
    saved = Progress.from_dict(checkpoint_store.read_progress(checkpoint))
    template.restore(checkpoint)
    if saved.fingerprint != fingerprint:
        raise CheckpointError(
            f"{checkpoint}: taken under another plan of batches",
            "The corpus, seed, batch or speed settings have changed; go on with those of its recipe.yaml.",
        )
    return saved


def _keeper(recipe: TrainRecipe, folder: RunFolder, logs: Path, crew: Crew) -> Keeper:
    settings = recipe.sync
    if isinstance(settings, ServerSettings):
        per_lease = settings.micro_batches_per_lease

        def start(index: int) -> Process:
            return crew.start(
                f"shard {index}", "shard", [str(folder.root), str(index)], logs / f"shard-{index}"
            )

        return Shards(
            settings,
            start,
            num_parts=-(-recipe.batch.micro_batches_per_step // per_lease),
            max_grad_norm=recipe.optimiser.max_grad_norm,
            patience=recipe.faults.link_seconds,
        )
    if isinstance(settings, GossipSettings):
        return Neighbours(settings)
    return Memory()
