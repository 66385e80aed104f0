"""
Your own table, with the names of its labels
============================================

Texts and tags mostly come as a table, with the tags in one column, and often there is a second
table that says what each tag means. Both are used here.
"""

# %%
# Two tables
# ----------
# Written here, to have some: endocrine diseases, their codes separated by commas.

import io

import pandas as pd

from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[4])
codes = [", ".join(data.label_names[row.indices]) for row in data.y_train]
csv = pd.DataFrame({"text": data.X_train, "codes": codes}).to_csv(index=False)
csv_of_codes = pd.DataFrame({"code": data.label_names, "name": data.label_texts}).to_csv(
    index=False
)

table = pd.read_csv(io.StringIO(csv))
table.head()

# %%
# Texts are a column, labels a list of lists
# ------------------------------------------

texts = table["text"]
labels = [cell.split(", ") for cell in table["codes"]]

from skxmc import LightXMLClassifier

settings = {"max_length": 32, "max_epochs": 2, "random_state": 0}
without = LightXMLClassifier("sentence-transformers/all-MiniLM-L6-v2", **settings)
without.fit(texts, labels)
without.classes_[:5]

# %%
# What the labels mean
# --------------------
# ``label_texts`` takes a text for each label, in the order of ``classes_``, the sorted labels;
# each is one more training text. Where nothing is known about a label, it is None.

name_of = pd.read_csv(io.StringIO(csv_of_codes), dtype=str).set_index("code")["name"]
about = [name_of.get(code) for code in without.classes_]
informed = LightXMLClassifier("sentence-transformers/all-MiniLM-L6-v2", **settings)
informed.fit(texts, labels, label_texts=about)

# %%
# What it brings
# --------------
# Descriptions of codes are training texts of this data set already, so little is new here but the
# names of groups. In most data sets the names of labels are news.

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
