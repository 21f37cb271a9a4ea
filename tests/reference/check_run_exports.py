#!/usr/bin/env python3
"""A run's results, read by the tools they are for. Not a test of CI, which has none of them; the files are held there by
tests/strategies/run_export_test.cpp, tests/strategies/tensorboard_test.cpp and tests/data/event_file_test.cpp.

    python3 tests/reference/check_run_exports.py build/cpu/bin/graft set.npz medmnist|mlflow|tensorboard

Trains DenseNet-121 for 32 pixels, two epochs with --tensorboard, on a MedMNIST-like file, stopped after 12 updates and
resumed; then
  medmnist     medmnist.evaluator's getAUC and getACC of every score file are those in its name
  mlflow       mlflow's client finds experiment, run, parameters, metrics with their steps, and artifacts
  tensorboard  EventAccumulator finds every update once with the numbers of steps.csv, and the histograms

Last run with medmnist 3.0.2, mlflow-skinny 3.17.2, tensorboard 2.21.0.
"""
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arguments}: {done.stderr}")
    return done.stdout


def train(graft, data, folder):
    first = [graft, "train", data, "--from-scratch", "--arch", "densenet121", "--size", "32", "--batch", "128",
             "--epochs", "2", "--tensorboard", "-o", folder, "--device", "cpu", "--quiet",
             "--allow-leaks", "duplicates,near-duplicates"]
    run(*first, "--max-steps", "12")
    run(*first, "--resume", "--max-steps", "-1")


def medmnist(graft, data, folder):
    from medmnist.evaluator import getACC, getAUC
    arrays = np.load(data)
    files = run(graft, "export", folder, "--to", "medmnist", "-o", folder / "scores").splitlines()
    assert len(files) == 2
    for file in map(pathlib.Path, files):
        split = "test" if "_test_" in file.name else "val"
        scores = np.loadtxt(file, delimiter=",")
        assert (scores[:, 0] == np.arange(len(scores))).all()
        labels = arrays[f"{split}_labels"]
        task = ("multi-label, binary-class" if labels.shape[1] > 1 else
                "binary-class" if labels.max() == 1 else "multi-class")
        auc, acc = getAUC(labels, scores[:, 1:], task), getACC(labels, scores[:, 1:], task)
        assert f"[AUC]{auc:.3f}_[ACC]{acc:.3f}@{folder.name}.csv" in file.name, (file.name, auc, acc)
        print(file.name)


def mlflow(graft, data, folder):
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow.tracking import MlflowClient
    store = folder / "mlruns"
    run(graft, "export", folder, "--to", "mlflow", "-o", store)
    client = MlflowClient(tracking_uri=store.as_uri())
    experiment = client.get_experiment_by_name("graft")
    found, = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == folder.name
    assert found.data.params["train.batch"] == "128" and found.data.params["strategy.name"] == "full"
    rows = list(csv.DictReader(open(folder / "steps.csv")))
    history = client.get_metric_history(found.info.run_id, "update/loss")
    assert [(m.step, m.value) for m in history] == [(int(r["step"]), float(r["loss"])) for r in rows]
    summary = json.load(open(folder / "summary.json"))
    assert abs(found.data.metrics["test/auc"] - summary["test"]["auc"]) < 1e-9
    artifacts = [a.path for a in client.list_artifacts(found.info.run_id)]
    assert "predictions.csv" in artifacts
    print(found.info.run_id, len(found.data.params), "parameters", sorted(found.data.metrics), artifacts)


def tensorboard(graft, data, folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0})
    found.Reload()
    rows = list(csv.DictReader(open(folder / "steps.csv")))
    for name in ("loss", "penalty", "lr"):
        got = [(e.step, e.value) for e in found.Scalars(f"train/{name}")]
        assert got == [(int(r["step"]), np.float32(r[name])) for r in rows], (name, got)
    tags = found.Tags()
    head = found.Histograms("weights/classifier")
    assert [h.step for h in head] == [0] + [e.step for e in found.Scalars("epoch/val_loss")]
    assert head[0].histogram_value.num == sum(head[0].histogram_value.bucket)
    print(len(list(folder.glob("*tfevents*"))), "files", len(rows), "updates", tags["scalars"], tags["histograms"])


def main():
    graft, data, tool = sys.argv[1:]
    with tempfile.TemporaryDirectory() as parent:
        folder = pathlib.Path(parent) / "run"
        train(graft, data, folder)
        globals()[tool](graft, data, folder)


if __name__ == "__main__":
    main()
