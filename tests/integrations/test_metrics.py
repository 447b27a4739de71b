"""Scores against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from tenslora.integrations.metrics import score

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="needs the hf extra")


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_scikit_learns(classes, seed):
    draw = np.random.default_rng(seed)
    labels, said = draw.integers(classes, size=(2, 40))
    found = score(said, labels, classes)
    average = "binary" if classes == 2 else "macro"
    names = list(range(classes)) if classes > 2 else None
    f1 = sklearn_metrics.f1_score(labels, said, average=average, labels=names, zero_division=0)
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, said))
    assert found["f1"] == pytest.approx(f1)
    assert found["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(labels, said))


def test_one_class_said_for_all():
    assert score([1, 1], [0, 1], 2)["matthews"] == 0.0
    assert score([0, 0], [0, 0], 2) == {"accuracy": 1.0, "f1": 0.0, "matthews": 0.0}
