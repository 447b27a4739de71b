"""The embedded task: tell the topic of a question (PyPI's chatterbot-corpus, BSD licence)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tenslora.errors import DataError

__all__ = ["LEAST", "read_topics"]

#: Topics with fewer different questions are left out.
LEAST = 20


def read_topics() -> tuple[list[str], list[str]]:
    """Return the questions and their topics, each question once.

    A question is the first line of a conversation. Questions that differ in case or spaces alone
    count as one, and one that stands under several topics is left out, as are small topics.

    Raises
    ------
    DataError
        E710 where chatterbot-corpus or PyYAML is not installed.
    """
    folder = _folder()
    import yaml

    texts: dict[str, str] = {}
    owners: dict[str, set[str]] = {}
    for path in sorted(folder.glob("*.yml")):
        for conversation in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            text = " ".join(str(conversation[0]).split())
            key = text.casefold()
            texts.setdefault(key, text)
            owners.setdefault(key, set()).add(path.stem)
    single = {key: next(iter(topics)) for key, topics in owners.items() if len(topics) == 1}
    sizes = {topic: list(single.values()).count(topic) for topic in set(single.values())}
    kept = [key for key, topic in single.items() if sizes[topic] >= LEAST]
    return [texts[key] for key in kept], [single[key] for key in kept]


def _folder() -> Path:
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or spec.origin is None or importlib.util.find_spec("yaml") is None:
        what = "the questions of the embedded task are not installed (chatterbot-corpus, PyYAML)"
        raise DataError("E710", what, advice='pip install "tenslora[demo]", or name other data.')
    return Path(spec.origin).parent / "data" / "english"
