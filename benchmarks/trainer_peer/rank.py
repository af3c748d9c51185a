"""One rank of the peer, started by torchrun: ``transformers.Trainer`` on features made beforehand.

    torchrun --nproc-per-node 2 rank.py JOB

JOB is a JSON file, see :class:`Job`. Each rank writes what it did, step by step, to JOB.RANK.json.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from parakeet import parakeet
from torch import Tensor

from hocket.model import ModelConfig, build

IGNORED = -100
"""A label that is padding."""


@dataclass(frozen=True)
class Job:
    """What all ranks are told."""

    data: str
    """A file of torch.save: a list of {features (T, F), tokens (U)}."""
    model: Mapping[str, Any]
    """Of :class:`hocket.model.ModelConfig`."""
    seed: int
    steps: int
    utterances: int
    """Of a rank's batch."""
    precision: str
    loader_workers: int
    lr: float
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    max_grad_norm: float
    norm: str
    """Of the convolution module: batch or layer."""


class Utterances(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Features in memory. ``input_ids`` is the name by whose length Trainer groups."""

    def __init__(self, path: str) -> None:
        self._rows: list[dict[str, Tensor]] = torch.load(path)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"input_ids": self._rows[row]["features"], "labels": self._rows[row]["tokens"]}


def collate(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Pad features with zeros and labels with :data:`IGNORED`, to the longest."""
    lens_B = torch.tensor([len(row["input_ids"]) for row in rows])
    features = [row["input_ids"] for row in rows]
    labels = [row["labels"] for row in rows]
    pad = torch.nn.utils.rnn.pad_sequence
    features_BTF = pad(features, batch_first=True)
    return {
        "input_features": features_BTF,
        "attention_mask": torch.arange(features_BTF.shape[1]) < lens_B[:, None],
        "labels": pad(labels, batch_first=True, padding_value=IGNORED),
    }


class PerToken(transformers.Trainer):
    """A Trainer whose loss is hocket's: summed over the step's utterances, divided by its tokens."""

    rows: list[dict[str, float]]

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The loss of a rank; DDP takes the mean over ranks, hence their number."""
        if return_outputs or num_items_in_batch is None:
            raise ValueError("this Trainer trains alone, on batches whose tokens are counted")
        loss: Tensor = model(**inputs).loss
        mask_BT = inputs["attention_mask"]
        self.rows.append(
            {
                "loss_sum": float(loss.detach()),
                "num_tokens": int((inputs["labels"] != IGNORED).sum()),
                "num_frames": int(mask_BT.sum()),
                "num_utterances": len(mask_BT),
                "padded_to": mask_BT.shape[1],
            }
        )
        per_token: Tensor = loss * self.args.world_size / num_items_in_batch
        return per_token


class Clock(transformers.TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_told: Any, **_more: Any) -> None:
        """After the optimiser."""
        self.ends.append(time.time())


def model_of(job: Job) -> transformers.PreTrainedModel:
    """The peer's model with the weights that hocket's training begins with."""
    config = ModelConfig.model_validate(dict(job.model))
    theirs = parakeet(config, job.norm)
    found = theirs.load_state_dict(build(config, job.seed).state_dict(), strict=False)
    strange = [name for name in found.missing_keys if "running_" not in name and "num_batches" not in name]
    if strange or found.unexpected_keys:
        raise RuntimeError(f"weights do not fit: {strange} are missing, {found.unexpected_keys} unknown")
    return theirs


def settings(job: Job, folder: Path) -> transformers.TrainingArguments:
    """What Trainer is told: all that costs time and is not training is off."""
    return transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=job.steps,
        per_device_train_batch_size=job.utterances,
        train_sampling_strategy="group_by_length",
        dataloader_num_workers=job.loader_workers,
        dataloader_persistent_workers=job.loader_workers > 0,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        optim="adamw_torch_fused",
        learning_rate=job.lr,
        adam_beta1=job.betas[0],
        adam_beta2=job.betas[1],
        weight_decay=job.weight_decay,
        max_grad_norm=job.max_grad_norm,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=job.warmup_steps,
        bf16=job.precision == "bf16",
        use_cpu=True,
        ddp_backend="gloo",
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
        seed=job.seed,
        logging_strategy="no",
        logging_nan_inf_filter=False,
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def main() -> None:
    """Train, and write what was done."""
    path = Path(sys.argv[1])
    job = Job(**json.loads(path.read_text(encoding="utf-8")))
    torch.set_num_threads(1)
    told, clock = settings(job, path.parent / "trainer"), Clock()
    trainer = PerToken(
        model=model_of(job),
        args=told,
        data_collator=collate,
        train_dataset=Utterances(job.data),
        callbacks=[clock],
    )
    trainer.rows = []
    begun = time.time()
    trainer.train()
    steps = [{"end": end, **row} for end, row in zip(clock.ends, trainer.rows, strict=True)]
    answer = {"begun": begun, "steps": steps}
    Path(f"{path}.{os.environ['RANK']}.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
