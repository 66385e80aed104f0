"""
Your own table, with the names of its labels
============================================

Texts and tags often come as a table with all tags in one column. A second table may say what each
tag means. This example uses both.
"""

# %%
# Two tables
# ----------
# This code writes the two tables: respiratory diseases with codes separated by commas, and the
# names of the codes.

import io

import pandas as pd

from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[10])
codes = [", ".join(data.label_names[row.indices]) for row in data.y_train]
csv = pd.DataFrame({"text": data.X_train, "codes": codes}).to_csv(index=False)
csv_of_codes = pd.DataFrame({"code": data.label_names, "name": data.label_texts}).to_csv(
    index=False
)

table = pd.read_csv(io.StringIO(csv))
table.head()

# %%
# Texts are a column, and labels are a list of lists
# --------------------------------------------------
# Only the heads are trained here. That takes seconds, since ``fit`` encodes each text once.

texts = table["text"]
labels = [cell.split(", ") for cell in table["codes"]]

from skxmc import LightXMLClassifier

settings = {"max_length": 32, "freeze_encoder": True, "max_epochs": 4, "random_state": 0}
without = LightXMLClassifier("sentence-transformers/all-MiniLM-L6-v2", **settings)
without.fit(texts, labels)
without.classes_[:5]

# %%
# Texts about the labels
# ----------------------
# ``label_texts`` takes one text per label, in the order of ``classes_``, the sorted labels. Each
# becomes one more training text. If a label has no description, pass None for it.

name_of = pd.read_csv(io.StringIO(csv_of_codes), dtype=str).set_index("code")["name"]
about = [name_of.get(code) for code in without.classes_]
informed = LightXMLClassifier("sentence-transformers/all-MiniLM-L6-v2", **settings)
informed.fit(texts, labels, label_texts=about)

# %%
# The gain
# --------
# In this data set, the descriptions of codes are already training texts, so only the names of
# groups are new. Most data sets do not contain the names of labels, and gain more.

from skxmc.plotting import LabelFrequencyDisplay

y_test = [data.label_names[row.indices] for row in data.y_test]
display = None
for name, clf in {"without": without, "with label texts": informed}.items():
    display = LabelFrequencyDisplay.from_estimator(
        clf,
        data.X_test,
        y_test,
        y_train=labels,
        metric="recall",
        name=name,
        ax=display and display.ax_,
    )
