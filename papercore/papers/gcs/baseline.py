"""The lexical baseline: how far a bag of words gets on the same texts."""

from __future__ import annotations

import numpy as np
import pandas as pd


def bag_of_words(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """1 where logistic regression on word counts labels a test text right, else 0: (n_test,).

    Tables with text and label; words and word pairs seen twice or more, counts damped by tf-idf.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10, max_iter=2000)
    )
    model.fit(train["text"], train["label"])
    return (model.predict(test["text"]) == test["label"]).astype(float)
