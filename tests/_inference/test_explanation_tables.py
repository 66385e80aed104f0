"""TopKExplanation: tables in a terminal, tables in a notebook, and plain values."""

import dataclasses
import pickle
import re
from html.parser import HTMLParser
from unicodedata import east_asian_width

import pytest
from classifier_fixtures import MODES, dataset, fitted, make_classifier

import skxmc
from skxmc import TopKExplanation
from skxmc._inference.explanation import (
    ExplainedLabel,
    MemberScore,
    NeighborLabel,
    NeighborText,
    WordEffect,
)

X, Y = dataset()
TEXT = X[3]


# ---------------------------------------------------------------- tables


def example(**changes):
    near = (NeighborLabel("near", 0.5, 0.25),)
    words = (WordEffect("text", 0.25), WordEffect("the", -0.0625), WordEffect("of", 0.0001))
    members = (MemberScore("language", 0.5), MemberScore("words", 0.25))
    labels = (
        ExplainedLabel("first", 0.375, 0.75, 0.5, 12, 1, 16, near, words),
        ExplainedLabel("second", 0.0625, words=words[2:], members=members),
        ExplainedLabel("third", 0.0312),
    )
    neighbors = (
        NeighborText("a text", 1234, 0.875, ("first", "second")),
        NeighborText("another", 5, -0.125, ()),
    )
    explanation = TopKExplanation("the text", labels, neighbors, 0.875, 0.75, "the text", 4, 4, 32)
    return dataclasses.replace(explanation, **changes)


def test_explanation_prints_labels_with_reasons_and_texts():
    expected = """\
The 3 best labels of 'the text'
A word's number is what the score loses without it. A similar label's number is its own score.
#  score  label
1  0.375  first
            words: text +0.250, the -0.062
            similar labels: near 0.250
            cluster 12 of 16 labels: 0.750 (place 1 of 32), rank in it: 0.500
2  0.062  second
            words: no single word matters
            members: language 0.500, words 0.250
3  0.031  third
Most similar texts
 row  similarity  has #  text
1234       0.875    1 2  a text
   5      -0.125   none  another"""
    assert str(example()) == repr(example()) == expected
    without_y = tuple(near._replace(labels=None) for near in example().neighbors)
    assert str(example(neighbors=without_y)).split("Most similar texts\n")[1] == (
        " row  similarity  text\n1234       0.875  a text\n   5      -0.125  another"
    )
    assert "Most similar" not in str(example(neighbors=()))


def test_explanation_unlike_text_prints_warning():
    unlike = example(similarity=0.5)
    assert unlike.is_unfamiliar is True
    assert str(unlike).split("\n")[1:3] == [
        "This text is unlike all texts that it was compared with. Check its labels.",
        "The most similar one has a similarity of 0.50. Of 100 texts, 99 have at least 0.75.",
    ]
    assert "unlike all texts" in unlike._repr_html_()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"similarity": 0.75}, False),
        ({"similarity": 0.5, "usual_similarity": None}, None),
        ({"similarity": None}, None),
    ],
)
def test_explanation_other_text_prints_no_warning(values, expected):
    other = example(**values)
    assert other.is_unfamiliar is expected
    assert "unlike" not in str(other) + other._repr_html_()


def test_explanation_direct_mode_prints_no_clusters():
    printed = str(fitted("direct").explain_topk(TEXT, 2, n_neighbors=1))
    assert len(printed.split("#  score  label\n")[1].split("\n")) == 2 * 3
    assert "cluster" not in printed
    assert "cluster" in str(fitted().explain_topk(TEXT, 2))


def columns_of(line):
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in line)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("name", ["label " * 40, "日本語" * 50, "a\n\tb\x1b[31m\u202e" * 40])
def test_explanation_long_names_fit_100_columns(kind, name):
    names = [f"{name}{i}" for i in range(30)]
    clf = make_classifier(kind, max_epochs=1).fit(X, Y, label_names=names)
    text = name * 20
    explanation = clf.explain_topk(text, 30, texts=[text, *X], y=[names, *([[]] * len(X))])
    lines = str(explanation).split("\n")
    assert max(map(columns_of, lines)) <= 100
    assert columns_of(lines[0]) >= 97  # the width is used
    assert "".join(lines).isprintable()
    assert "1 2 3 4 5 6 ...  " in str(explanation)


class Elements(HTMLParser):
    """Tags in order, and the text between them, as a browser parses them."""

    def __init__(self, markup):
        super().__init__()
        self.tags, self.open, self.data = [], [], []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.data.append(data)


EVIL = "<script>alert('x')</script>&amp;\"<img src=x onerror=y>"


def test_repr_html_escapes_texts_and_names():
    names = [f"{EVIL} {i}" for i in range(30)]
    clf = make_classifier(max_epochs=1).fit(X, Y, label_names=names)
    explanation = clf.explain_topk(EVIL * 20, 2, texts=[EVIL, *X], y=[names, *([[]] * len(X))])
    markup = explanation._repr_html_()
    seen = Elements(markup)
    assert not seen.open
    assert set(seen.tags) == {"div", "p", "table", "tr", "th", "td"}
    assert seen.tags.count("table") == 2
    for label in explanation.labels:
        assert label.label in seen.data
    assert EVIL in seen.data
    assert f"'{EVIL}{EVIL}" in "".join(seen.data)


def test_repr_html_has_same_words_as_printed_table():
    seen = Elements(example()._repr_html_())
    words = " ".join(seen.data).replace("'", " ").split()
    assert words == str(example()).replace("'", " ").split()
    # Readable on light and dark backgrounds, and without downloads.
    markup = example()._repr_html_()
    assert not [word for word in ("color", "background", "src", "href", "url") if word in markup]
    assert "Most similar" not in example(neighbors=())._repr_html_()
    long = example(text="long " * 1000)._repr_html_()
    assert 300 < len(Elements(long).data[1]) + 40 < 400


def test_repr_html_marks_predicted_labels_and_reasons():
    cells = re.findall(r'<td style="([^"]*)">([^<]*)</td></tr>', example()._repr_html_())
    names = [label.label for label in example().labels]
    assert [name for style, name in cells if "bold" in style] == names
    reasons = [name for style, name in cells if "padding-left" in style]
    assert [reason.split(" ")[0] for reason in reasons] == [
        *("words:", "similar", "cluster"),
        *("words:", "members:"),
    ]
    assert all("padding: " in style for style, name in cells)


# ---------------------------------------------------------------- a plain value


def test_explanation_is_immutable_with_plain_values():
    assert skxmc.TopKExplanation is TopKExplanation
    explanation = fitted().explain_topk(TEXT, 3, texts=X, y=Y)
    with pytest.raises(dataclasses.FrozenInstanceError):
        explanation.text = "another"
    with pytest.raises(AttributeError):
        explanation.labels[0].score = 1.0
    assert pickle.loads(pickle.dumps(explanation)) == explanation
    assert hash(explanation) == hash(fitted().explain_topk(TEXT, 3, texts=X, y=Y))
    label, near = explanation.labels[0], explanation.neighbors[0]
    values = [*label[:7], *label.neighbors[0], *label.words[0], *near[:3], *near.labels]
    assert {type(value) for value in values} == {int, float, str}


def test_explanation_converts_to_pandas_frames():
    pandas = pytest.importorskip("pandas")
    explanation = fitted().explain_topk(TEXT, 3, texts=X, y=Y)
    frame = pandas.DataFrame(explanation.labels)
    assert list(frame.columns) == list(ExplainedLabel._fields)
    assert frame["score"].tolist() == [label.score for label in explanation.labels]
    assert pandas.DataFrame(explanation.neighbors)["text"][0] == TEXT
