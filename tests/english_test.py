"""The English of the repository: phrases that make a reader stumble, and where they stand."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SUFFIXES = {".md", ".py", ".sh", ".yaml"}
ELSEWHERE = {"CHANGELOG.md", "tests/english_test.py"}

# Regular expressions of whole words, each with a better way to say it.
PHRASES = {
    r"(?:goes|go|going|gone|went) on": "resumes, continues, happens",
    r"(?:is|are|be|was|were|been|being) told": "is given, is notified of, must",
    r"alike": "the same way, equally",
    r"amid": "during, while, mid-",
    r"as it goes": "as possible",
    r"beside": "next to, as well as, compared with",
    r"bytes to spare": "trailing bytes",
    r"come(?:s)? to (?:its|their) ends?": "finishes",
    r"come(?:s)? to lie": "is written",
    r"die(?:s)? of": "exits on",
    r"drop-out": "dropout",
    r"(?:for )?want of": "without, out of",
    r"hears? of": "is notified of, records",
    r"in parts of": "as a fraction of",
    r"may be another": "may change",
    r"never was": "was never",
    r"no one(?!-)|nobody": "say what happens",
    r"of one's own": "custom, your own",
    r"stands? in": "replaces",
    r"taken up": "resumed",
    r"that (?:is|are) no [a-z]+": "that is not a",
    r"the (?:input|step) limits": "bottleneck: input",
    r"their due": "say what",
    r"what else (?:there )?is|what is there|what there is": "name the thing",
    r"whatever": "any",
}
PATTERNS = {  # A phrase may continue on the next line, after the sign of a comment.
    re.compile(rf"\b(?:{phrase})\b".replace(" ", r"[\s#]+"), re.IGNORECASE): better
    for phrase, better in PHRASES.items()
}


def files():
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [ROOT / p for p in listed if pathlib.Path(p).suffix in SUFFIXES and p not in ELSEWHERE]


def found(text):
    """The phrases of a text, as (line, words, a better way)."""
    for pattern, better in PATTERNS.items():
        for match in pattern.finditer(text):
            words = " ".join(match[0].replace("#", " ").split())
            yield text.count("\n", 0, match.start()) + 1, words, better


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of tracked files")
def test_no_phrase_makes_a_reader_stumble():
    hits = [
        f"{path.relative_to(ROOT)}:{line}: {words!r}; better: {better}"
        for path in files()
        if path.exists()
        for line, words, better in sorted(found(path.read_text(encoding="utf-8")))
    ]
    assert not hits, "\n" + "\n".join(hits)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The same command goes on from there.", "goes on"),
        ("a full disk AMID\n# it", "AMID"),
        ("    # it goes\n    # on later", "goes on"),
        ("THE INPUT LIMITS: the step", "THE INPUT LIMITS"),
        ("a folder that is no search", "that is no search"),
    ],
)
def test_a_phrase_is_found(text, words):
    assert words in [match for _, match, _ in found(text)]


@pytest.mark.parametrize("text", ["amidst", "polygons on it", "besides", "standing", "aliked"])
def test_other_words_are_left_alone(text):
    assert not list(found(text))
