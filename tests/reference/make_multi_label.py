#!/usr/bin/env python3
"""Writes tests/reference/data/multi_label.json: of several labels per image the loss by PyTorch in float64 and the
scores by scikit-learn. Needs torch, numpy and scikit-learn.

    python3 tests/reference/make_multi_label.py
"""
import json
import pathlib
import warnings

import numpy as np
import torch
from sklearn import metrics

OUT = pathlib.Path(__file__).parent / "data" / "multi_label.json"


def loss(rng, rows, classes, smoothing, has_weights, size):
    """binary_cross_entropy_with_logits of targets (1-s) t + s/2, weighted where t is 1, and its gradient. Without
    smoothing that is pos_weight, which would also weight the smoothed share of what does not hold."""
    x = torch.tensor(rng.normal(0, size, (rows, classes)), requires_grad=True)
    truth = torch.tensor(rng.random((rows, classes)) < 0.3, dtype=torch.float64)
    weights = torch.tensor(rng.uniform(0.2, 5, classes)) if has_weights else None
    loss_of = torch.nn.functional.binary_cross_entropy_with_logits
    if smoothing == 0:
        value = loss_of(x, truth, pos_weight=weights)
    else:
        value = loss_of(x, (1 - smoothing) * truth + smoothing / 2,
                        weight=torch.where(truth > 0, weights, 1.0) if has_weights else None)
    value.backward()
    return {"classes": classes, "smoothing": smoothing, "weights": weights.tolist() if has_weights else [],
            "logits": x.detach().flatten().tolist(), "truth": truth.int().flatten().tolist(), "loss": value.item(),
            "gradient": x.grad.flatten().tolist()}


def mean_over(values):
    values = [v for v in values if not np.isnan(v)]
    return float(np.mean(values)) if values else None


def ratio(part, whole):
    return part / whole if whole > 0 else np.nan


def of_class(p, y):
    """One class as a task of two, and what each of its scores is undefined without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = 0 < y.sum() < len(y)
        decided = p > 0.5
        tn, fp, fn, tp = metrics.confusion_matrix(y, decided, labels=[0, 1]).ravel()
        return {"positives": int(y.sum()), "auc": metrics.roc_auc_score(y, p) if both else np.nan,
                "average_precision": metrics.average_precision_score(y, p) if y.any() else np.nan,
                "sensitivity": ratio(tp, tp + fn), "specificity": ratio(tn, tn + fp),
                "f1": metrics.f1_score(y, decided) if y.any() or decided.any() else np.nan,
                "balanced": metrics.balanced_accuracy_score(y, decided) if both else np.nan,
                "kappa": metrics.cohen_kappa_score(y, decided)}


def scores(name, p, y):
    classes = [of_class(p[:, c], y[:, c]) for c in range(p.shape[1])]
    decided = p > 0.5
    mean = {key: mean_over([c[key] for c in classes])
            for key in ("auc", "average_precision", "sensitivity", "specificity", "f1", "balanced", "kappa")}
    plain = [{k: None if np.isnan(v) else v for k, v in c.items()} for c in classes]
    return {"name": name, "probabilities": p.flatten().tolist(), "truth": y.astype(int).flatten().tolist(),
            "classes": plain, "subset_accuracy": metrics.accuracy_score(y, decided),
            "accuracy": 1 - metrics.hamming_loss(y, decided), "macro_accuracy": mean["balanced"],
            "macro_f1": mean["f1"], "kappa": mean["kappa"], "auc": mean["auc"],
            "average_precision": mean["average_precision"], "sensitivity": mean["sensitivity"],
            "specificity": mean["specificity"],
            "weighted_f1": metrics.f1_score(y, decided, average="weighted", zero_division=0) if y.any() else None,
            "loss": np.mean([metrics.log_loss(y[:, c], p[:, c], labels=[0, 1]) for c in range(p.shape[1])]),
            "brier": np.mean((p - y) ** 2)}


def main():
    rng = np.random.default_rng(3)
    losses = [loss(rng, 5, 4, 0.0, False, 2), loss(rng, 7, 3, 0.0, True, 2), loss(rng, 4, 6, 0.2, True, 2),
              loss(rng, 6, 2, 0.1, False, 60)]
    truth = rng.random((60, 5)) < [0.5, 0.2, 0.1, 0.4, 0.05]
    good = np.clip(0.15 + 0.5 * truth + rng.normal(0, 0.2, truth.shape), 0, 1)
    ties = np.round(good, 1)
    lacking = truth.copy()
    lacking[:, 2], lacking[:, 4] = False, True  # a class that no image has, one that all have
    cases = [scores("good", good, truth), scores("ties", ties, truth), scores("lacking", good, lacking),
             scores("none", np.full((4, 2), 0.25), np.zeros((4, 2), bool)),
             scores("certain", np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([[0, 1], [0, 0]], bool))]
    text = ",\n ".join(json.dumps(entry) for entry in losses), ",\n ".join(json.dumps(entry) for entry in cases)
    OUT.write_text('{"losses": [\n %s],\n"scores": [\n %s]}\n' % text)


main()
