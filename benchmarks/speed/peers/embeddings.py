"""sentence-transformers' embeddings under scikit-learn's logistic regression."""

from __future__ import annotations

import joblib
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from sklearn.linear_model import LogisticRegression

from benchmarks.speed.tasks import Case, Learnt


def encoder(case: Case) -> SentenceTransformer:
    """MiniLM with the mean over the tokens, as all-MiniLM-L6-v2 is published."""
    network = Transformer(str(case.weights / "minilm"))
    pooling = Pooling(network.get_word_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[network, pooling], device="cpu")


def learn(case: Case) -> Learnt:
    """Embed once, solve once."""
    train = case.read("train")
    sentences = encoder(case)
    head = LogisticRegression(max_iter=1000).fit(sentences.encode(train.inputs), train.labels)
    joblib.dump(head, case.out / "head.joblib")
    return Learnt(predict=lambda inputs: head.predict_proba(sentences.encode(list(inputs)))[:, 1])
