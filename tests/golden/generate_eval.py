"""Goldens of the verification scores: embeddings of pairs, and what NumPy makes of them by InsightFace's procedure
(thresholds arange(0, 4, .01), accept below, first best threshold on the other folds, population standard deviation).
The ROC figures come from the definition, by brute force. Run it where NumPy is installed; it writes tests/golden/eval/data.

    python3 tests/golden/generate_eval.py
"""
import os

import numpy as np

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "eval", "data")
PAIRS, DIM = 400, 8


def make_pairs():
    rng = np.random.default_rng(20)
    same = rng.random(PAIRS) < 0.5
    a = rng.normal(size=(PAIRS, DIM))
    other = rng.normal(size=(PAIRS, DIM))
    b = np.where(same[:, None], a + 0.75 * rng.normal(size=(PAIRS, DIM)), other)
    scale = np.exp(rng.normal(size=(2 * PAIRS, 1)))  # norms differ: normalisation matters
    rows = np.empty((2 * PAIRS, DIM))
    rows[0::2], rows[1::2] = a, b
    return (rows * scale).astype(np.float32), same


def distances_of(rows):
    rows = rows.astype(np.float64)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return np.sum(np.square(rows[0::2] - rows[1::2]), axis=1)


def folds_of(n, k):
    sizes = np.full(k, n // k)
    sizes[: n % k] += 1
    ends = np.cumsum(sizes)
    return [np.arange(e - s, e) for s, e in zip(sizes, ends)]


def accuracy_at(threshold, distance, same):
    return np.mean(np.less(distance, threshold) == same)


def verification(distance, same):
    n = len(distance)
    thresholds = np.arange(0, 4, 0.01)
    accuracies, best = [], []
    for test in folds_of(n, min(10, n)):
        train = np.setdiff1d(np.arange(n), test)
        scores = [accuracy_at(t, distance[train], same[train]) for t in thresholds]
        best.append(thresholds[int(np.argmax(scores))])
        accuracies.append(accuracy_at(best[-1], distance[test], same[test]))
    out = {"accuracy": np.mean(accuracies), "accuracy_std": np.std(accuracies), "threshold": np.mean(best)}
    positive, negative = distance[same], distance[~same]
    wins = (positive[:, None] < negative[None, :]) + 0.5 * (positive[:, None] == negative[None, :])
    out["auc"] = wins.mean()
    for exponent in range(1, 7):
        far = 10.0**-exponent
        if far * len(negative) < 1:
            break
        candidates = np.append(np.unique(distance), np.inf)
        allowed = [t for t in candidates if np.mean(negative < t) <= far]
        out[f"1e-{exponent}"] = max(np.mean(positive < t) for t in allowed)
    return out


def main():
    rows, same = make_pairs()
    np.save(os.path.join(FOLDER, "embeddings.npy"), rows)
    np.save(os.path.join(FOLDER, "same.npy"), same.astype(np.uint8))
    distance = distances_of(rows)
    with open(os.path.join(FOLDER, "expected.txt"), "w") as f:
        for n in (PAIRS, 123, 10, 7):
            for name, value in verification(distance[:n], same[:n]).items():
                f.write(f"{n} {name} {value:.15g}\n")


main()
