#!/usr/bin/env python3
"""Writes tests/reference/data/statistics.json: scores and curves by scikit-learn, distributions and rank tests by SciPy.
Needs numpy, SciPy and scikit-learn >= 1.8.

    python3 tests/reference/make_statistics.py
"""
import json
import pathlib
import warnings

import numpy as np
import scipy
import sklearn
from scipy import special, stats
from sklearn import calibration, metrics

OUT = pathlib.Path(__file__).parent / "data" / "statistics.json"
BINS = 15


def plain(value):
    """Numbers as JSON knows them: NaN becomes null, infinity a string."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(v) for v in value]
    if isinstance(value, (np.floating, float)):
        return None if np.isnan(value) else "inf" if np.isinf(value) else float(value)
    return int(value) if isinstance(value, np.integer) else value


def mean_over(values):
    values = [v for v in values if not np.isnan(v)]
    return np.mean(values) if values else np.nan


def calibration_error(p, labels):
    """By calibration_curve, whose bins are (low, high] too; it leaves out empty bins and gives no counts."""
    top, correct = p.max(1), p.argmax(1) == labels
    accuracy, mean = calibration.calibration_curve(correct, top, n_bins=BINS)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], top), minlength=BINS)
    counts = counts[counts > 0]
    assert len(counts) == len(accuracy)
    return float((counts * np.abs(accuracy - mean)).sum() / len(labels))


def scores(p, labels):
    classes = p.shape[1]
    predicted = p.argmax(1)
    one = [labels == c for c in range(classes)]
    is_known = [0 < o.sum() < len(labels) for o in one]
    auc = [metrics.roc_auc_score(one[c], p[:, c]) if is_known[c] else np.nan for c in range(classes)]
    recall = [metrics.recall_score(one[c], predicted == c) if one[c].any() else np.nan for c in range(classes)]
    specificity = [metrics.recall_score(~one[c], predicted != c) if (~one[c]).any() else np.nan for c in range(classes)]
    precision = [metrics.average_precision_score(one[c], p[:, c]) if one[c].any() else np.nan for c in range(classes)]
    is_binary = classes == 2
    kappa = metrics.cohen_kappa_score(labels, predicted) if len(set(labels) | set(predicted)) > 1 else np.nan
    return {
        "loss": metrics.log_loss(labels, p / p.sum(1, keepdims=True), labels=range(classes)) if classes > 1 else
        float(-np.log(p[:, 0]).mean()),
        "accuracy": metrics.accuracy_score(labels, predicted),
        "macro_accuracy": metrics.balanced_accuracy_score(labels, predicted),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro"),
        "weighted_f1": metrics.f1_score(labels, predicted, average="weighted"),
        "kappa": kappa,
        "auc": auc[1] if is_binary else mean_over(auc),
        "average_precision": mean_over(precision),
        "sensitivity": recall[1] if is_binary else mean_over(recall),
        "specificity": recall[0] if is_binary else mean_over(specificity),
        "brier": metrics.brier_score_loss(labels == 1, p[:, 1]) if is_binary else
        metrics.brier_score_loss(labels, p, labels=range(classes), scale_by_half=False) if classes > 1 else
        float(((1 - p[:, 0]) ** 2).mean()),
        "calibration_error": calibration_error(p, labels),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=range(classes)),
    }


def score_cases(rng):
    cases = []
    for name, n, classes, present, digits in [
            ("binary", 29, 2, [0, 1], 6), ("binary_ties", 33, 2, [0, 1], 1), ("binary_one_class", 9, 2, [1], 3),
            ("binary_other_class", 8, 2, [0], 3), ("four", 41, 4, [0, 1, 2, 3], 6), ("four_ties", 37, 4, [0, 1, 2, 3], 1),
            ("five_two_absent", 35, 5, [0, 2, 3], 4), ("three_one_class", 7, 3, [1], 4), ("nine", 60, 9, range(9), 5),
            ("all_equal", 12, 3, [0, 1, 2], None)]:
        labels = rng.choice(list(present), n)
        labels[: len(present)] = list(present)
        logits = rng.normal(0, 1.2, (n, classes))
        logits[np.arange(n), labels] += 0.8
        p = np.exp(logits)
        p /= p.sum(1, keepdims=True)
        if digits is None:
            p[:] = 1 / classes
        else:  # rounding makes ties; rows still sum to one
            p = np.clip(np.round(p, digits), 10.0**-digits, None)
            top = p.argmax(1)
            p[np.arange(n), top] = 0
            p[np.arange(n), top] = np.round(1 - p.sum(1), digits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case = {"name": name, "classes": classes, "labels": labels, "probabilities": p.ravel(), **scores(p, labels)}
            fpr, tpr, thresholds = metrics.roc_curve(labels == 1, p[:, 1], drop_intermediate=False)
            case["roc"] = np.stack([thresholds, fpr, tpr], 1)
            if (labels == 1).any():
                precision, recall, thresholds = metrics.precision_recall_curve(labels == 1, p[:, 1])
                case["precision_recall"] = np.stack([np.append(thresholds, np.inf), precision, recall], 1)[::-1]
            accuracy, mean = calibration.calibration_curve(p.argmax(1) == labels, p.max(1), n_bins=BINS)
            case["reliability"] = np.stack([mean, accuracy], 1)
        cases.append(case)
    return cases


def distributions():
    """[argument..., value] of each function in data/distributions.h."""
    rows = {}
    rows["normal_cdf"] = [[z, stats.norm.cdf(z)] for z in (-8.5, -2.5, -0.3, 0.0, 1.1, 4.0)]
    rows["normal_quantile"] = [[p, stats.norm.ppf(p)] for p in (1e-12, 1e-4, 0.025, 0.31, 0.5, 0.8, 0.975, 0.9999)]
    rows["incomplete_beta"] = [[a, b, x, special.betainc(a, b, x)] for a, b, x in
                               [(0.5, 0.5, 0.3), (2, 3.5, 0.1), (40, 7, 0.9), (1, 60, 0.01), (250, 250, 0.52)]]
    rows["student_t_quantile"] = [[p, f, stats.t.ppf(p, f)] for p in (0.6, 0.975, 0.999) for f in (1, 2.5, 9, 40, 1e4)]
    rows["f_tail"] = [[f, a, b, stats.f.sf(f, a, b)] for f, a, b in
                      [(0.4, 3, 12), (2.2, 7, 28), (5.0, 4, 16), (11.0, 2, 8), (40.0, 9, 36), (1.0, 1, 1)]]
    rows["normal_range_tail"] = [[q, k, stats.studentized_range.sf(q, k, np.inf)] for k in (2, 3, 8, 20, 60)
                                 for q in (0.7, 3.0, 5.5)]
    rows["normal_range_quantile"] = [[t, k, stats.studentized_range.isf(t, k, np.inf)] for k in (2, 5, 8, 12, 40)
                                     for t in (0.1, 0.05, 0.01)]
    return rows


def rank_tests(rng):
    """Scores (datasets, contenders); with rounding, ranks tie. Iman and Davenport's F from SciPy's chi-squared."""
    cases = []
    for datasets, contenders, digits in [(5, 3, 6), (6, 8, 6), (5, 8, 1), (12, 4, 1), (2, 3, 6)]:
        scores = np.round(rng.normal(0.8, 0.05, (datasets, contenders)) + 0.03 * np.arange(contenders), digits)
        chi = stats.friedmanchisquare(*scores.T).statistic
        f = (datasets - 1) * chi / (datasets * (contenders - 1) - chi)
        case = {"scores": scores, "statistic": f,
                "p": stats.f.sf(f, contenders - 1, (contenders - 1) * (datasets - 1)),
                "mean_ranks": stats.rankdata(-scores, axis=1).mean(0),
                "critical_difference": stats.studentized_range.isf(0.05, contenders, np.inf) / np.sqrt(2)
                * np.sqrt(contenders * (contenders + 1) / (6 * datasets))}
        cases.append(case)
    return cases


def wilson_cases():
    return [[k, n, level, *stats.binomtest(k, n).proportion_ci(level, method="wilson")]
            for k, n, level in [(0, 12, 0.95), (12, 12, 0.95), (97, 120, 0.95), (97, 120, 0.99), (3, 11, 0.9)]]


def bca_case(rng):
    """Brier score of two classes: SciPy's BCa at the level that widening the normal's tails gives."""
    n = 90
    labels = (np.arange(n) % 3 == 0).astype(int)
    p = np.clip(np.round(1 / (1 + np.exp(-rng.normal(1.5 * (2 * labels - 1), 1.4))), 4), 0.0001, 0.9999)
    errors = (p - labels) ** 2
    about = (errors - errors.mean()) ** 2
    share = np.array([about[labels == c].sum() for c in range(2)]) / about.sum()
    freedom = 1 / (share**2 / (np.bincount(labels) - 1)).sum()
    z = np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, min(freedom, n - 1))
    found = stats.bootstrap((errors,), np.mean, n_resamples=400000, batch=2000, method="BCa", rng=rng,
                            confidence_level=2 * stats.norm.cdf(z) - 1).confidence_interval
    return {"labels": labels, "probabilities": np.stack([np.round(1 - p, 4), p], 1).ravel(), "low": found.low, "high": found.high,
            "standard_error": errors.std(ddof=1) / np.sqrt(n)}


def main():
    rng = np.random.default_rng(20240)
    stored = {
        "made_with": {"numpy": np.__version__, "scipy": scipy.__version__, "sklearn": sklearn.__version__},
        "scores": score_cases(rng),
        "distributions": distributions(),
        "ranks": rank_tests(rng),
        "wilson": wilson_cases(),
        "bca": bca_case(rng),
    }
    text = json.dumps(plain(stored), indent=None, separators=(",", ":"))
    OUT.write_text(text.replace('},{"', '},\n{"').replace(',"', ',\n "') + "\n")


if __name__ == "__main__":
    main()
