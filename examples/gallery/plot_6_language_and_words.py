"""
Language and words together
===========================

Transformers read meaning, and linear models read rare words. This example compares the two, and
combines them in an ensemble.
"""

# %%
# Three models
# ------------
# `OmikujiClassifier` is a linear model on TF-IDF. With ``fusion="learned"``, the ensemble holds out
# 200 of these texts. From them, it learns when to trust which member.

from skxmc import LightXMLClassifier, LightXMLEnsemble, OmikujiClassifier
from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[4])
both = LightXMLEnsemble(
    [
        (
            "language",
            LightXMLClassifier(
                "sentence-transformers/all-MiniLM-L6-v2",
                max_length=32,
                freeze_encoder=True,
                max_epochs=4,
                random_state=0,
            ),
        ),
        ("words", OmikujiClassifier()),
    ],
    fusion="learned",
    random_state=0,
)
both.fit(data.X_train, data.y_train)
models = {**both.named_estimators_, "both, learned": both}
models["both, mean"] = LightXMLEnsemble.from_fitted(list(both.named_estimators_.items()))

# %%
# On synonyms
# -----------
# There are 266 test texts, so one percentage point of P@1 is three texts.

from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

propensities = label_propensities(data.y_train)
print(f"{'':14} P@1   P@3   P@5   PSP@5")
for name, model in models.items():
    top = model.predict_topk(data.X_test, k=5)
    p = [precision_at_k(data.y_test, top, k=k) for k in (1, 3, 5)]
    psp = psp_at_k(data.y_test, top, propensities=propensities)
    print(f"{name:14} {p[0]:.2f}  {p[1]:.2f}  {p[2]:.2f}  {psp:.2f}")

# %%
# By the number of texts per label
# --------------------------------
# Each bin holds few mentions of labels, so small differences are noise.

from skxmc.plotting import LabelFrequencyDisplay

display = None
for name in ("words", "language", "both, learned"):
    display = LabelFrequencyDisplay.from_estimator(
        models[name],
        data.X_test,
        data.y_test,
        y_train=data.y_train,
        metric="recall",
        name=name,
        ax=display and display.ax_,
    )
