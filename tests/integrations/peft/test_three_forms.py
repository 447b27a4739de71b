"""One fine-tuning in three forms: the command, tenslora.attach and PEFT, to the last bit."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import tenslora as tl
from tenslora.cli import main
from tenslora.integrations.batches import Batches
from tenslora.integrations.data import load_task
from tenslora.integrations.transformers import encode, load_model

FAMILY, RANKS, TARGETS = "tenslora.att_qkv_depth", 4, ["query", "key", "value"]
EPOCHS, SIZE, RATE, SEED = 3, 8, 0.02, 3


def by_attach(model):
    tl.attach(model, FAMILY, targets=TARGETS, ranks=RANKS, train="classifier", seed=SEED)
    return model


def by_peft(model):
    config = tl.TensLoraConfig(
        family=FAMILY,
        target_modules=TARGETS,
        ranks=RANKS,
        modules_to_save=["classifier"],
        seed=SEED,
        task_type="SEQ_CLS",
    )
    return peft.get_peft_model(model, config)


def fit(model, train, evaluation):
    """The plain loop that the command runs: return the loss on the evaluation split by epoch."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    batches = Batches(train.lengths, SIZE, SEED)
    held = DataLoader(
        evaluation.rows,
        batch_sampler=Batches(evaluation.lengths, 4 * SIZE, None),
        collate_fn=evaluation.collate,
    )
    losses = []
    for _ in range(EPOCHS):
        model.train()
        for batch in DataLoader(train.rows, batch_sampler=batches, collate_fn=train.collate):
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            parts = [
                cross_entropy(model(**batch).logits.float(), batch["labels"], reduction="none")
                for batch in held
            ]
        losses.append(float(torch.cat(parts).double().mean()))
    return losses


@pytest.fixture(scope="module")
def command(tiny_bert, tiny_task, tmp_path_factory):
    """The losses of ``tenslora finetune``."""
    out = tmp_path_factory.mktemp("command")
    words = f"finetune --model {tiny_bert} --data {tiny_task} --out {out} --family {FAMILY}"
    words += f" --ranks {RANKS} --epochs {EPOCHS} --batch-size {SIZE} --lr {RATE} --seeds {SEED}"
    words += " --schedule constant --warmup 0"
    assert main(words.split()) == 0
    (run,) = json.loads((out / "report.json").read_text())["runs"]
    return [entry["eval_loss"] for entry in run["history"]]


@pytest.mark.parametrize("form", [by_attach, by_peft])
def test_the_losses_of_the_command_to_the_last_bit(command, form, tiny_bert, tiny_task):
    task = load_task(str(tiny_task))
    loaded = load_model(str(tiny_bert), task, seed=SEED)
    splits = [encode(loaded, split, 128) for split in (task.train, task.evaluation)]
    losses = fit(form(loaded.model), *splits)
    assert losses == command
    assert len(set(losses)) == EPOCHS  # it was trained
