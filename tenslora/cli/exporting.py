"""The commands that write an adapter in the form that others load, and read theirs."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from tenslora.cli.command import ADAPTER, Answer, Command, Parser
from tenslora.cli.reading import whole_number
from tenslora.errors import UsageError

if TYPE_CHECKING:
    from tenslora.nn import Adapter

__all__ = ["COMMANDS"]

#: Where PEFT's adapters of this package have their cores.
_HOUSES = ("tuner", "first_layer")


def _fill_export(parser: Parser) -> None:
    add = parser.add_argument
    add("adapter", metavar="ADAPTER", help=ADAPTER)
    add("out", metavar="OUT", help="a new folder")
    forms = (
        "lora: a plain LoRA, as PEFT and vLLM load; merged: the base with the update inside; "
        "tuner, first_layer: a PEFT checkpoint of tenslora, with its cores in the other place"
    )
    add("--to", choices=("lora", "merged", *_HOUSES), default="lora", help=forms)
    rank = "of the LoRA: the nearest by SVD, with its error said (default: the lowest exact one)"
    add("--rank", metavar="N", help=rank)
    add("--no-pad", action="store_true", help="do not fill up to a rank that servers have room for")
    apart = "write modules that were trained whole to a file of their own: vLLM refuses them inside"
    add("--apart", action="store_true", help=apart)
    base = "the base of a merged model: a folder or hub id (default: what the adapter says); of a "
    base += "LoRA, for an adapter of PEFT's that starts from the weights"
    add("--model", metavar="MODEL", help=base)


def _run_export(args: Namespace) -> Answer:
    path = Path(args.adapter)
    if args.to != "lora" and (args.rank is not None or args.no_pad or args.apart):
        what = "--rank, --no-pad and --apart belong to --to lora"
        raise UsageError("E801", what, advice="Leave them out.")
    if args.to in _HOUSES:
        return _convert(args, path)
    if args.to == "merged":
        from tenslora.integrations.exporting import export_merged

        merged = export_merged(path, args.out, model=args.model)
        return Answer(merged.to_dict, lambda: str(merged))
    rank = None if args.rank is None else whole_number("rank", args.rank)
    options = {"pad": not args.no_pad, "apart": args.apart}
    report = _load(args, path).export_lora(args.out, rank=rank, **options)
    return Answer(report.to_dict, lambda: str(report))


def _load(args: Namespace, path: Path) -> Adapter:
    """The adapter, without its base where that is not given."""
    from tenslora.nn.standin import adapter_file, load_alone

    if args.model is None:
        return load_alone(path)
    if adapter_file(path) is not None:
        what = "--model belongs to --to merged: a LoRA of such a file is written without the base"
        raise UsageError("E801", what, advice="Leave it out.")
    from tenslora.integrations.exporting import load_on_base

    return load_on_base(path, args.model)


def _convert(args: Namespace, path: Path) -> Answer:
    if args.model is not None:
        what = "--model belongs to --to merged: names of tensors are changed without the base"
        raise UsageError("E801", what, advice="Leave it out.")
    from tenslora.integrations.peft import convert_bank

    converted = convert_bank(path, args.out, to=args.to)
    return Answer(converted.to_dict, lambda: str(converted))


def _fill_import(parser: Parser) -> None:
    add = parser.add_argument
    source = "the folder that PEFT's save_pretrained wrote: of a LoRA, or of TensLoraConfig"
    add("source", metavar="LORA", help=source)
    add("out", metavar="OUT", help="a new file, or a folder for adapter.safetensors")
    base = "the base, of which the configuration is read: a folder or hub id (default: LORA's)"
    add("--model", metavar="MODEL", help=base)


def _run_import(args: Namespace) -> Answer:
    from tenslora.integrations.importing import import_lora

    imported = import_lora(args.source, args.out, model=args.model)
    return Answer(imported.to_dict, lambda: str(imported))


COMMANDS = (
    Command(
        "export",
        "Write an adapter as a plain LoRA (for PEFT, vLLM, ...), or merged into its base",
        _fill_export,
        _run_export,
        extra="peft",
        needs=("torch", "safetensors"),
        usage="ADAPTER OUT [--to lora|merged|tuner|first_layer] [--rank N] [--model MODEL]",
        epilog="example:\n  tenslora export tenslora-run/ --to lora out/",
    ),
    Command(
        "import",
        "Write a folder of PEFT, a plain LoRA or tenslora's own, as a file of an adapter",
        _fill_import,
        _run_import,
        extra="hf",
        needs=("torch", "safetensors", "transformers"),
        epilog="example:\n  tenslora import somebodys-lora/ out/",
    ),
)
