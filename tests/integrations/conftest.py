"""Tiny models with random weights, and small tasks, made here: no hub, no network."""

from __future__ import annotations

import csv
import os
import random
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
transformers = pytest.importorskip("transformers", reason="needs the hf extra")

GOOD = ["cats purr", "dogs bark", "birds sing", "bees hum"]
BAD = ["stones sleep", "clouds fall", "rivers stop", "roads end"]
WORDS = sorted({word for text in GOOD + BAD for word in text.split()} | {"softly", "today", "here"})


def rows(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Sentences of two kinds, and what they are."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        label = draw.choice(["good", "bad"])
        text = draw.choice(GOOD if label == "good" else BAD)
        tail = " ".join(draw.choices(["softly", "today", "here"], k=draw.randrange(4)))
        found.append((f"{text} {tail}".strip(), label))
    return found


def write_tsv(path: Path, table: list[tuple[str, ...]], header: tuple[str, ...]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerows([header, *table])
    return path


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory) -> Path:
    """A folder with a BERT of 2 layers, width 32, 4 heads, and a tokenizer of whole words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing

    folder = tmp_path_factory.mktemp("tiny-bert")
    vocabulary = {w: n for n, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with torch.random.fork_rng():
        transformers.set_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vit(tmp_path_factory) -> Path:
    """A folder with a ViT of 2 layers for images of 16 x 16, and its processor."""
    folder = tmp_path_factory.mktemp("tiny-vit")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=16,
        patch_size=8,
    )
    with torch.random.fork_rng():
        transformers.set_seed(0)
        transformers.ViTModel(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory) -> Path:
    """A folder with train.tsv and dev.tsv: which words make the kind is easily learned."""
    folder = tmp_path_factory.mktemp("animals")
    write_tsv(folder / "train.tsv", rows(96, 0), ("sentence", "label"))
    write_tsv(folder / "dev.tsv", rows(32, 1), ("sentence", "label"))
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that is not part of the repository."""
    named = os.environ.get("TENSLORA_DATA")
    folder = Path(named) if named else Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no data: TENSLORA_DATA names no folder, and ../shared/data is absent")
    return folder


@pytest.fixture(scope="session")
def make_rows():
    return rows


@pytest.fixture(scope="session")
def make_tsv():
    return write_tsv
