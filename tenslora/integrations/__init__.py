"""Fine-tuning and comparing on Hugging Face models: what the commands of the same names do.

The configurations are plain dataclasses and import nothing heavy; a command line or a script fills
them in and calls :func:`finetune`, :func:`~tenslora.integrations.comparing.compare` or
:func:`demo`. The functions return reports with ``to_dict()`` and ``to_text()``; they print nothing,
and tell how far they are through the ``talk`` callback.

>>> from tenslora.integrations import FinetuneConfig
>>> FinetuneConfig(family="lotr", like="lora:8").epochs
3
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tenslora.integrations.config import CompareConfig, FinetuneConfig, TrainingConfig
from tenslora.lazy import find

if TYPE_CHECKING:
    from tenslora.integrations.comparing import compare
    from tenslora.integrations.comparison import Comparison
    from tenslora.integrations.compressed import Compressed
    from tenslora.integrations.compressing import compress, recompress
    from tenslora.integrations.demonstration import demo
    from tenslora.integrations.finetuning import Report, finetune
    from tenslora.integrations.fitting import fit_models, fit_stack
    from tenslora.integrations.rankchange import RankChange, change_ranks
    from tenslora.integrations.rankschedule import RankSchedule
    from tenslora.integrations.updates import read_updates

__all__ = [
    "CompareConfig",
    "Comparison",
    "Compressed",
    "FinetuneConfig",
    "RankChange",
    "RankSchedule",
    "Report",
    "TrainingConfig",
    "change_ranks",
    "compare",
    "compress",
    "demo",
    "finetune",
    "fit_models",
    "fit_stack",
    "read_updates",
    "recompress",
]

_LAZY = {
    "Comparison": "comparison",
    "Compressed": "compressed",
    "compare": "comparing",
    "compress": "compressing",
    "recompress": "compressing",
    "demo": "demonstration",
    "RankChange": "rankchange",
    "RankSchedule": "rankschedule",
    "change_ranks": "rankchange",
    "Report": "finetuning",
    "finetune": "finetuning",
    "fit_models": "fitting",
    "fit_stack": "fitting",
    "read_updates": "updates",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch and transformers when it is first asked for."""
    return find(__name__, name, _LAZY)
