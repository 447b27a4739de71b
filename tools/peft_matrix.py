"""PEFT's own tests, run on the tuner.

    python tools/peft_matrix.py [--sdist peft-0.21.2.tar.gz] [words for pytest, such as -k merge]

The tests of the installed version are taken from its source distribution (from PyPI unless a file
is named) and unpacked to a temporary folder; nothing of them is kept here. This module is also the
pytest plugin that puts our configuration in the place of PEFT's, and small random models of the
right class where the hub's are asked for.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path
from typing import Any

SHARED = "W[site out in] = B[site out r] A[r in]"
HADAMARD = "W[site out in] = B[site out r] A[r in] C[out r] D[site r in]"

#: PEFT itself leaves it out for methods whose weights are shared by layers: it counts tensors, and
#: expects fewer of them where fewer layers have an adapter.
LEFT_OUT = "layer_indexing"

FILES = (
    "test_custom_models.py",
    "test_decoder_models.py",
    "test_encoder_decoder_models.py",
    "test_feature_extraction_models.py",
    "test_seq_classifier.py",
    "test_token_classification_qa.py",
    "test_mapping.py",
)

#: What is refused by design, and tests of peft before 0.21 want: biases, which it would not save
#: (E531); the tuner's default layout on a bare model (E536); a second adapter whose target, by an
#: error in writing, is ``0layers..lin0`` and matches nothing.
REFUSED = (
    "adding_multiple_adapters_with_bias_raises",
    "load_model_low_cpu_mem_usage",
    "multiple_active_adapters_with_overlapping_modules_to_save_raises",
)

#: Cases of test_custom_models.py: name, model, settings.
CUSTOM = [
    ("Vanilla MLP 1 tenslora", "MLP", {"target_modules": "lin0"}),
    ("Vanilla MLP 2 tenslora", "MLP", {"target_modules": ["lin0"]}),
    ("Vanilla MLP 3 tenslora", "MLP", {"target_modules": ["lin1"]}),
    ("Vanilla MLP 4 tenslora", "MLP", {"target_modules": ["lin0", "lin1"]}),
    ("Vanilla MLP 5 tenslora", "MLP", {"target_modules": ["lin0"], "modules_to_save": ["lin1"]}),
    ("Vanilla MLP 6 tenslora", "MLP", {"target_modules": ["lin0"], "alpha": 4, "dropout": 0.1}),
    ("MLP family tenslora", "MLP", {"target_modules": ["lin0", "lin1"], "family": HADAMARD}),
    ("Conv1D tenslora", "EmbConv1D", {"target_modules": ["conv1d"]}),
    ("MLP DoRA tenslora", "MLP", {"target_modules": ["lin0", "lin1"], "family": f"dora({SHARED})"}),
    ("MLP HiRA tenslora", "MLP", {"target_modules": ["lin0", "lin1"], "family": f"hira({SHARED})"}),
    (
        "Conv1D DoRA tenslora",
        "EmbConv1D",
        {"target_modules": ["conv1d"], "family": f"dora({SHARED})"},
    ),
]


def main() -> int:
    """Unpack the tests, make the models, and run pytest there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sdist", type=Path, help="a source distribution of peft")
    known, words = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = _unpack(known.sdist or _download(folder), folder)
        _make_models(folder)
        files = [str(tests / file) for file in FILES if (tests / file).is_file()]
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, str(Path(here).parent), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "pytest", "-p", "peft_matrix", "-p", "no:cacheprovider"]
        command += ["--import-mode=prepend", "-q", "--rootdir", str(tests.parent), *files, *words]
        environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode  # noqa: S603


def _download(folder: Path) -> Path:
    version = importlib.metadata.version("peft")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:"]
    command += ["-d", str(folder), f"peft=={version}"]
    subprocess.run(command, check=True)  # noqa: S603
    return folder / f"peft-{version}.tar.gz"


def _unpack(sdist: Path, folder: Path) -> Path:
    with tarfile.open(sdist) as archive:
        wanted = [m for m in archive.getmembers() if "/tests/" in m.name]
        archive.extractall(folder, members=wanted, filter="data")
    (tests,) = folder.glob("peft-*/tests")
    (tests / "__init__.py").touch()
    (tests.parent / "pytest.ini").write_text("[pytest]\n")
    return tests


def _make_models(folder: Path) -> None:
    """Write a small model of random weights to the relative path of each id of the hub."""
    import torch
    import transformers as hf

    text = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 37}
    text |= {"num_hidden_layers": 2, "vocab_size": 1024, "max_position_embeddings": 512}
    few = {**text, "num_key_value_heads": 2}
    opt = {"hidden_size": 32, "word_embed_proj_dim": 32, "num_attention_heads": 4, "ffn_dim": 37}
    gpt = {"n_embd": 32, "n_head": 4, "n_layer": 2, "vocab_size": 1024}
    gpt |= {"bos_token_id": 0, "eos_token_id": 0}
    t5 = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_heads": 4, "num_layers": 2, "vocab_size": 1024}
    bart = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 1024}
    bart |= {f"{s}_{n}": v for s in ("encoder", "decoder") for n, v in
             (("attention_heads", 4), ("ffn_dim", 37))}  # fmt: skip
    deberta = {**text, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
    made = {
        "peft-internal-testing/tiny-random-OPTForCausalLM": hf.OPTForCausalLM(
            hf.OPTConfig(**opt, num_hidden_layers=2, vocab_size=1024)
        ),
        "peft-internal-testing/tiny-random-GPT2LMHeadModel": hf.GPT2LMHeadModel(
            hf.GPT2Config(**gpt)
        ),
        "hf-internal-testing/tiny-random-gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(**gpt)),
        "peft-internal-testing/tiny-random-GPTJForCausalLM": hf.GPTJForCausalLM(
            hf.GPTJConfig(**gpt, rotary_dim=4)
        ),
        "trl-internal-testing/tiny-random-LlamaForCausalLM": hf.LlamaForCausalLM(
            hf.LlamaConfig(**few)
        ),
        "peft-internal-testing/tiny-dummy-qwen2": hf.Qwen2ForCausalLM(hf.Qwen2Config(**few)),
        "hf-internal-testing/tiny-random-MistralForCausalLM": hf.MistralForCausalLM(
            hf.MistralConfig(**few)
        ),
        "hf-internal-testing/tiny-random-Gemma3ForCausalLM": hf.Gemma3ForCausalLM(
            hf.Gemma3TextConfig(**few, head_dim=8)
        ),
        "peft-internal-testing/tiny-random-T5ForConditionalGeneration-calibrated": (
            hf.T5ForConditionalGeneration(hf.T5Config(**t5, decoder_start_token_id=0))
        ),
        "peft-internal-testing/tiny-random-BartForConditionalGeneration": (
            hf.BartForConditionalGeneration(hf.BartConfig(**bart))
        ),
        "peft-internal-testing/tiny-random-BertModel": hf.BertModel(hf.BertConfig(**text)),
        "peft-internal-testing/tiny-random-RobertaModel": hf.RobertaModel(hf.RobertaConfig(**text)),
        "peft-internal-testing/tiny-random-DebertaModel": hf.DebertaModel(
            hf.DebertaConfig(**deberta)
        ),
        "peft-internal-testing/tiny-random-DebertaV2Model": hf.DebertaV2Model(
            hf.DebertaV2Config(**deberta)
        ),
        "peft-internal-testing/tiny-random-BertForSequenceClassification": (
            hf.BertForSequenceClassification(hf.BertConfig(**text))
        ),
        "peft-internal-testing/tiny-random-RobertaForSequenceClassification": (
            hf.RobertaForSequenceClassification(hf.RobertaConfig(**text))
        ),
        "trl-internal-testing/tiny-LlamaForSequenceClassification-3.2": (
            hf.LlamaForSequenceClassification(hf.LlamaConfig(**few, pad_token_id=0))
        ),
    }
    torch.manual_seed(0)
    for name, model in made.items():
        model.save_pretrained(folder / name)


# pytest calls what follows.


def pytest_configure(config: Any) -> None:
    """Let PEFT's helpers be imported where diffusers, which these tests do not use, is absent."""
    if importlib.util.find_spec("diffusers") is None:
        stub = types.ModuleType("diffusers")
        stub.StableDiffusionPipeline = type("StableDiffusionPipeline", (), {})  # type: ignore[attr-defined]
        sys.modules["diffusers"] = stub


def pytest_sessionstart(session: Any) -> None:
    """Say of the class what holds for the default layout, of which every case here is.

    PEFT's tests ask it whether ``inject_adapter_in_model`` refuses the method; with
    ``bank="first_layer"`` it does not, which tests/integrations/peft/test_first_layer.py covers.
    And some of them save pickled files and read them again, which is refused by default.
    """
    from tenslora.integrations.peft import TensLoraModel

    TensLoraModel.uses_shared_state = TensLoraModel.reads_pickles = True


def pytest_pycollect_makemodule(module_path: Path, parent: Any) -> Any:
    """Import a module of tests, and put our cases into its lists in place of PEFT's."""
    import pytest

    if module_path.name not in FILES:
        return None
    module = pytest.Module.from_parent(parent, path=module_path)
    found = module.obj
    for name, cases in _cases(module_path.name).items():
        if hasattr(found, name):
            getattr(found, name)[:] = cases
    return module


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Keep the tests that have our configuration."""
    kept = [item for item in items if _is_ours(item)]
    _mark_refused(kept)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _mark_refused(items: list[Any]) -> None:
    """Expect the refusals of an older peft: another error is a failure, and so is none."""
    import pytest
    from peft.tuners.tuners_utils import BaseTuner

    if hasattr(BaseTuner, "uses_shared_state"):
        return
    mark = pytest.mark.xfail(raises=ValueError, strict=True, reason="refused with this peft")
    for item in items:
        if any(word in item.name for word in REFUSED):
            item.add_marker(mark)


def _is_ours(item: Any) -> bool:
    if LEFT_OUT in item.name:
        return False
    call = getattr(item, "callspec", None)
    values = [] if call is None else list(call.params.values())
    from tenslora import TensLoraConfig

    return any(v is TensLoraConfig or isinstance(v, TensLoraConfig) for v in values)


def _cases(file: str) -> dict[str, list[Any]]:
    from tenslora import TensLoraConfig

    def config(**settings: Any) -> TensLoraConfig:
        return TensLoraConfig(**{"family": SHARED, "init_weights": False, **settings})

    if file == "test_custom_models.py":
        one, other, both = ["lin0"], ["lin1"], ["lin0", "lin1"]
        return {
            "TEST_CASES": [
                (name, model, TensLoraConfig, {"family": SHARED, "ranks": 4, **settings})
                for name, model, settings in CUSTOM
            ],
            "ALL_PEFT_CONFIG_CLASSES": [TensLoraConfig],
            "MULTIPLE_ACTIVE_ADAPTERS_TEST_CASES": [
                (f"tenslora {name}", "tenslora", TensLoraConfig, *(
                    {"family": SHARED, "target_modules": t, "init_weights": False, "seed": n}
                    for n, t in enumerate(targets)
                ))
                for name, targets in (("Same", (one, one)), ("Different", (one, other)))
            ],
            "MIXED_ADAPTER_TEST_CASES": [
                (f"tenslora {name}", config(target_modules=a), config(target_modules=b, seed=1))
                for name, a, b in (
                    ("same", one, one), ("different", one, other), ("mixed", both, other)
                )
            ],
        }  # fmt: skip
    tasks = {
        "test_decoder_models.py": "CAUSAL_LM",
        "test_encoder_decoder_models.py": "SEQ_2_SEQ_LM",
        "test_feature_extraction_models.py": "FEATURE_EXTRACTION",
        "test_seq_classifier.py": "SEQ_CLS",
    }
    families = ("tenslora.att_qkv_depth", "vera", SHARED)
    both = {
        task: [
            (TensLoraConfig, {"task_type": task, "target_modules": None, "family": f, "ranks": 4})
            for f in families
        ]
        for task in (*tasks.values(), "TOKEN_CLS", "QUESTION_ANS")
    }
    if file in tasks:
        return {"ALL_CONFIGS": both[tasks[file]]}
    return {"TOKEN_CLS_CONFIGS": both["TOKEN_CLS"], "QA_CONFIGS": both["QUESTION_ANS"]}


if __name__ == "__main__":
    raise SystemExit(main())
