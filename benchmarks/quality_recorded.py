"""Test AUC of peers recorded before this benchmark was written: their own classes, one seed, the same splits and sizes.

Embedding 16, attention 80-40, head 200-80, Adam at 1e-3, user id included, the weights of the best validation AUC.
FuxiCTR 2.3.10's package ships no nets, so it is here only, from its repository's nets, DIEN with its auxiliary loss
mended. What `benchmarks.quality` measures itself stands beside these; the best of both is what has to be beaten.
"""

from collections.abc import Mapping

RECORDED: Mapping[str, Mapping[str, float]] = {
    "ml100k_rating": {
        "FuxiCTR din": 0.7180,
        "FuxiCTR dien": 0.7187,
        "torch-rechub din": 0.7117,
        "torch-rechub dien": 0.7113,
        "deepctr-torch din": 0.7099,
        "deepctr-torch dien": 0.7055,
    },
    "ml1mhalf_rating": {
        "FuxiCTR din": 0.7676,
        "FuxiCTR dien": 0.7731,
        "torch-rechub din": 0.7678,
        "torch-rechub dien": 0.7625,
        "deepctr-torch din": 0.7668,
        "deepctr-torch dien": 0.7634,
    },
    "beauty_next": {
        "FuxiCTR din": 0.7723,
        "FuxiCTR dien": 0.7674,
        "torch-rechub din": 0.7924,
        "torch-rechub dien": 0.7669,
        "deepctr-torch din": 0.7595,
        "deepctr-torch dien": 0.5000,
    },
    "sports_next": {"FuxiCTR din": 0.7941, "torch-rechub din": 0.8145},
}
