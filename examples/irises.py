"""A classifier and its cross-validation with scikit-learn: each fold is a call of its own, found again.

Usage: python irises.py
"""

import dask
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold

from seamless_dask import delayed, direct, put


@delayed(ignore=("n_jobs",))
def score(data, target, fold, trees, n_jobs=1):
    """Return the accuracy of a forest on one fold, after training on the others."""
    folds = StratifiedKFold(n_splits=4, shuffle=True, random_state=0)
    train, test = list(folds.split(data, target))[fold]
    forest = RandomForestClassifier(trees, random_state=0, n_jobs=n_jobs).fit(data[train], target[train])
    return float(forest.score(data[test], target[test]))


@direct
def train(data, target, trees):
    """Return the forest that was trained on everything: estimators are values too."""
    return RandomForestClassifier(trees, random_state=0).fit(data, target)


irises = load_iris()
data, target = put(irises.data), put(irises.target)  # stored once, passed for nothing
scores = dask.compute(*(score(data, target, fold, trees=20) for fold in range(4)))
print(f"accuracy {sum(scores) / len(scores):.2f}")
forest = train(data, target, trees=20)
print("first flower:", irises.target_names[forest.predict(irises.data[:1])[0]])
