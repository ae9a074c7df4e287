"""The book's prose: worked numbers are recomputed, citations and links lead somewhere."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from t2v_mini.metrics.caption_accuracy import wilson_interval

BOOK = Path(__file__).parents[1] / "book"
NUMBERS = dict(re.findall(r"<!-- check: ([^>]+?) -->([-\d.]+\d)", (BOOK / "maths.md").read_text()))
DRAWN = 0.6 * Normal(3.0, 0.5).sample((200_000,)) + 0.4 * torch.randn(200_000)
EXPECTED = {
    "mixed mean": (0.6 * 3, 1e-9),
    "mixed variance": (0.6**2 * 0.25 + 0.4**2, 1e-9),
    "kl": (kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0)).item(), 1e-6),
    "softmax": (torch.tensor([2.0, 0, 0]).softmax(0)[0].item(), 5e-4),
    "ln 8": (math.log(8), 5e-4),
    "conv": (torch.nn.Conv1d(1, 1, 3, stride=2, padding=1)(torch.zeros(1, 1, 32)).shape[-1], 0),
    "wilson low": (wilson_interval(9, 10)[0], 5e-4),
    "wilson high": (wilson_interval(9, 10)[1], 5e-4),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_worked_number(name):
    value, tolerance = EXPECTED[name]
    assert float(NUMBERS[name]) == pytest.approx(value, abs=tolerance)


def test_every_worked_number_is_checked():
    assert set(NUMBERS) == set(EXPECTED)


def test_the_rule_for_sums_of_gaussians():
    assert DRAWN.mean().item() == pytest.approx(1.8, abs=0.01)
    assert DRAWN.var().item() == pytest.approx(0.25, abs=0.01)


def test_citations_exist():
    keys = re.findall(r"^@\w+\{([^,\s]+),", (BOOK / "references.bib").read_text(), re.MULTILINE)
    assert len(keys) == len(set(keys)) >= 20
    pages = [*BOOK.glob("*.md"), *(BOOK.parent / "notebooks").glob("*.ipynb")]
    cited = {key for page in pages for key in re.findall(r"\{cite:p\}`([^`]+)`", page.read_text())}
    assert cited <= set(keys) and len(cited) >= 8


def test_glossary_terms_are_unique_and_sorted():
    text = (BOOK / "glossary.md").read_text()
    terms = [
        line
        for line in text.split("```{glossary}")[1].splitlines()
        if line and not line.startswith((" ", "`"))
    ]
    assert len(terms) >= 30
    assert [t.lower() for t in terms] == sorted({t.lower() for t in terms})
