"""The book's prose: worked numbers are recomputed, citations and terms lead somewhere."""

import json
import re
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from t2v_mini.metrics.caption_accuracy import wilson_interval
from tools.landing import CHAPTERS, PARTS, book_map, comparison, finished, status
from tools.project import ROOT

BOOK = ROOT / "book"
PAGES = sorted([*BOOK.glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")])
MATHS = (BOOK / "maths.md").read_text()
MARKED = re.findall(r"<!-- check: ([^>]+?) -->(-?\d+(?:\.\d+)?)", MATHS)
# The reader computes with the formula above each number. Here another road leads to it: samples,
# a grid, autograd, a polynomial's roots, a library, or counting all cases.
GRID = torch.linspace(-7, 13, 200_001, dtype=torch.float64)
REDRAWS = [sum(draw) / 3 for draw in product((1, 1, 0), repeat=3)]


@cache
def drawn_mixture() -> tuple[float, float]:
    """Mean and variance of 0.6 x + 0.4 eps from a million draws."""
    generator = np.random.default_rng(0)
    values = 0.6 * generator.normal(3, 0.5, 1_000_000) + 0.4 * generator.normal(size=1_000_000)
    return float(values.mean()), float(values.var())


@cache
def posterior() -> tuple[float, float]:
    """Mean and variance of x0 given xt = 2.3, by summing Bayes' rule over a grid."""
    weight = (Normal(3.0, 0.5).log_prob(GRID) + Normal(0.6 * GRID, 0.4).log_prob(torch.tensor(2.3))).exp()
    weight = weight / weight.sum()
    mean = (weight * GRID).sum()
    return mean.item(), (weight * (GRID - mean) ** 2).sum().item()


@cache
def two_steps() -> tuple[float, float]:
    """Signal and noise variance after two steps: the map of (x0, eps1, eps2) written out."""
    start = torch.eye(3, dtype=torch.float64)
    x1 = 0.8 * start[0] + 0.6 * start[1]
    x2 = 0.8 * x1 + 0.6 * start[2]
    return x2[0].item(), x2[1:].square().sum().item()


def sigma_gradient() -> float:
    sigma = torch.tensor(0.5, requires_grad=True)
    (3 + sigma * -1).square().backward()
    return sigma.grad.item()


@cache
def chain() -> tuple[float, float]:
    weight = torch.tensor([[1.0, 0, 2], [0, 1, -1]], requires_grad=True)
    x = torch.tensor([1.0, 2, 1], requires_grad=True)
    ((weight @ x).square().sum() / 2).backward()
    return x.grad[2].item(), weight.grad[0, 1].item()


def softmax_gradient() -> float:
    scores = torch.tensor([2.0, 0, 0], requires_grad=True)
    torch.nn.functional.cross_entropy(scores[None], torch.tensor([0])).backward()
    return scores.grad[0].item()


def wilson_roots(successes: int, trials: int) -> list[float]:
    """Ends of the interval as the roots of the quadratic in p."""
    share, ratio = successes / trials, 1.96**2 / trials
    return sorted(np.roots([1 + ratio, -(2 * share + ratio), share**2]).real.tolist())


def guessing() -> float:
    return torch.nn.functional.cross_entropy(torch.zeros(1, 8), torch.tensor([3])).item()


def kl(p: tuple[float, float], q: tuple[float, float]) -> float:
    """KL of two Gaussians, (mean, standard deviation) each, by torch's own formula."""
    return kl_divergence(Normal(*p), Normal(*q)).item()


EXPECTED: dict[str, Callable[[], float]] = {
    "peak": lambda: Normal(0.0, 0.1).log_prob(torch.tensor(0.0)).exp().item(),
    "mixed mean": lambda: round(drawn_mixture()[0], 2),
    "mixed variance": lambda: round(drawn_mixture()[1], 2),
    "two steps signal": lambda: two_steps()[0],
    "two steps noise": lambda: two_steps()[1],
    "posterior mean": lambda: posterior()[0],
    "posterior variance": lambda: posterior()[1],
    "drawn": lambda: Normal(3.0, 0.5).icdf(Normal(0.0, 1.0).cdf(torch.tensor(-1.0))).item(),
    "sigma gradient": sigma_gradient,
    "kl shift": lambda: kl((1.0, 1.0), (0.0, 1.0)),
    "kl narrow": lambda: kl((0.0, 0.5), (0.0, 1.0)),
    "kl wide": lambda: kl((0.0, 1.0), (0.0, 0.5)),
    "bernoulli": lambda: torch.distributions.Bernoulli(0.3).variance.item(),
    "standard error": lambda: torch.distributions.Binomial(84, 0.3).stddev.item() / 84,
    "chain x": lambda: chain()[0],
    "chain w": lambda: chain()[1],
    "softmax": lambda: torch.tensor([2.0, 0, 0]).softmax(0)[0].item(),
    "softmax gradient": softmax_gradient,
    "ln 8": guessing,
    "conv": lambda: torch.nn.Conv1d(1, 1, 3, stride=2, padding=1)(torch.zeros(1, 1, 32)).shape[-1],
    "conv transposed": lambda: torch.nn.ConvTranspose1d(1, 1, 4, stride=2, padding=1)(
        torch.zeros(1, 1, 16)
    ).shape[-1],
    "conv parameters": lambda: sum(p.numel() for p in torch.nn.Conv3d(64, 64, 3).parameters()),
    "wilson low": lambda: wilson_roots(9, 10)[0],
    "wilson high": lambda: wilson_roots(9, 10)[1],
    "wilson none": lambda: wilson_roots(0, 16)[1],
    "bootstrap all": lambda: sum(mean == 1 for mean in REDRAWS) / len(REDRAWS),
    "bootstrap deviation": lambda: float(np.std(REDRAWS)),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_worked_number(name):
    printed = dict(MARKED)[name]
    digits = len(printed.partition(".")[2])
    # Half a unit of the last printed digit: a number that is rounded wrongly fails.
    assert float(printed) == pytest.approx(EXPECTED[name](), abs=0.5 * 10**-digits + 1e-6)


def test_every_worked_number_is_checked_once():
    names = [name for name, _ in MARKED]
    assert sorted(names) == sorted(EXPECTED)
    # A mark without a number behind it, or one that opens a line and so hides the line as HTML.
    assert MATHS.count("<!--") == len(MARKED)
    assert not re.search(r"^\s*<!--", MATHS, re.MULTILINE)


@pytest.mark.parametrize(("successes", "trials"), [(9, 10), (0, 16), (16, 16), (300, 512)])
def test_the_library_and_the_derivation_agree_on_wilson(successes, trials):
    assert wilson_interval(successes, trials) == pytest.approx(wilson_roots(successes, trials), abs=1e-7)


def bibliography(text: str) -> dict[str, dict[str, str]]:
    """Fields of each entry. Raises `ValueError` for a key that occurs twice."""
    entries: dict[str, dict[str, str]] = {}
    for key, body in re.findall(r"^@\w+\{([^,\s]+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        if key in entries:
            raise ValueError(f"the key {key} occurs twice")
        entries[key] = dict(re.findall(r"^\s*(\w+) = \{(.*)\},$", body, re.MULTILINE))
    return entries


BIB = (BOOK / "references.bib").read_text()
ENTRIES = bibliography(BIB)


def test_no_entry_escapes_the_reader_of_the_bibliography():
    assert len(ENTRIES) == len(re.findall(r"^@", BIB, re.MULTILINE)) >= 45


def test_a_key_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="occurs twice"):
        bibliography("@article{a,\n  year = {1999},\n}\n@article{a,\n  year = {1999},\n}\n")


@pytest.mark.parametrize("key", ENTRIES)
def test_entry_of_the_bibliography(key):
    entry = ENTRIES[key]
    assert entry["author"] and entry["title"]
    assert re.fullmatch(r"(?:19|20)\d\d", entry["year"])
    assert re.fullmatch(rf"[a-z]+{entry['year']}[a-z0-9]+", key)
    assert any(entry.get(field) for field in ("booktitle", "journal", "institution", "publisher"))
    if "eprint" in entry:
        year, month = int("20" + entry["eprint"][:2]), int(entry["eprint"][2:4])
        assert re.fullmatch(r"\d{4}\.\d{4,5}", entry["eprint"]) and 1 <= month <= 12
        # Print follows the preprint, or comes with it.
        assert year <= int(entry["year"])


def test_no_paper_has_two_entries():
    titles = [re.sub(r"\W", "", entry["title"]).lower() for entry in ENTRIES.values()]
    eprints = [entry["eprint"] for entry in ENTRIES.values() if "eprint" in entry]
    assert len(titles) == len(set(titles)) and len(eprints) == len(set(eprints))


def cited(path: Path) -> set[str]:
    found = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", path.read_text())
    return {key.strip() for keys in found for key in keys.split(",")}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_what_a_page_cites_is_in_the_bibliography(path):
    assert cited(path) <= set(ENTRIES)


def test_citations_are_found_at_all():
    assert len(set().union(*map(cited, PAGES))) >= 8


def glossary() -> dict[str, str]:
    """Each term with its text. A term stands at the margin, its text is indented."""
    block = re.search(
        r"^(`{3,}|:{3,})\{glossary\}\n(.*?)^\1", (BOOK / "glossary.md").read_text(), re.M | re.S
    )
    pairs = re.findall(r"^(\S.*)\n((?:[ \t]+\S.*\n)+)", block[2], re.MULTILINE)
    terms = [term for term, _ in pairs]
    assert len(terms) == len(re.findall(r"^\S.*$", block[2], re.MULTILINE)), "a term without a text"
    assert len({term.lower() for term in terms}) == len(terms), "a term occurs twice"
    return dict(pairs)


def test_glossary_terms_are_unique_and_sorted():
    terms = [term.lower() for term in glossary()]
    assert terms == sorted(terms) and len(terms) >= 60


def test_an_entry_of_the_glossary_is_one_to_three_sentences():
    # A stop inside brackets or a number ends no sentence.
    counts = {term: len(re.findall(r"\.(?=\s|$)", text)) for term, text in glossary().items()}
    assert {term: count for term, count in counts.items() if not 1 <= count <= 3} == {}


def test_terms_that_pages_use_are_in_the_glossary():
    known = {term.lower() for term in glossary()}
    used = {
        (re.search(r"<([^>]+)>", term) or [None, term])[1].lower()
        for path in PAGES
        for term in re.findall(r"\{term\}`([^`]+)`", path.read_text())
    }
    assert used and used <= known


def test_notation_agrees_with_the_library():
    """The signs and scales that notation.md fixes are those of the code."""
    from t2v_mini.diffusion.flow import RectifiedFlow
    from t2v_mini.diffusion.guidance import guided
    from t2v_mini.diffusion.process import GaussianDiffusion
    from t2v_mini.diffusion.samplers import shifted_times

    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 4, 8, 8, generator=generator), torch.randn(2, 3, 4, 8, 8, generator=generator)
    t = torch.tensor([0.25, 1.0])
    flow = RectifiedFlow(prediction="velocity")
    xt = flow.corrupt(x0, eps, t)
    assert torch.allclose(xt[0], 0.75 * x0[0] + 0.25 * eps[0]) and torch.allclose(xt[1], eps[1])
    u = flow.target(x0, eps, t)
    assert torch.equal(u, eps - x0)
    assert torch.allclose(flow.to_x0(u, xt, t), x0, atol=1e-5)
    process, step = GaussianDiffusion(prediction="v"), torch.tensor([300, 999])
    kept = process.alpha_bar[step].view(2, 1, 1, 1, 1)
    assert torch.allclose(process.target(x0, eps, step), kept.sqrt() * eps - (1 - kept).sqrt() * x0)
    predict = guided(lambda x, t, text: x + text, 10.0, 2.0, 3.0)
    assert predict(torch.zeros(1), t).item() == pytest.approx(2 + 3 * (10 - 2))
    assert shifted_times(2, 3.0)[1].item() == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))


def test_the_first_page_says_what_is_finished():
    done = finished()
    assert set(done) <= set(range(1, CHAPTERS + 1)) and done
    assert status({1: "a"}).startswith("**Chapter 1 is finished")
    assert status({2: "b", 1: "a"}).startswith("**Chapters 1 and 2 are finished")
    assert status({1: "a", 2: "b", 5: "c"}).startswith("**Chapters 1, 2 and 5 are finished")
    assert status(dict.fromkeys(range(1, CHAPTERS + 1), "")) == f"All {CHAPTERS} chapters are finished.\n"


def test_the_map_names_every_chapter_and_links_those_that_exist():
    text = book_map({4: "04_text.ipynb"})
    assert "4 [Text and video in one space](../notebooks/04_text.ipynb)" in text
    assert text.count("](") == 1 and len(re.findall(r"^\| \*\*", text, re.MULTILINE)) == len(PARTS)
    numbers = [int(number) for number in re.findall(r"(?:\| |· )(\d+) ", text)]
    assert numbers == list(range(1, CHAPTERS + 1))


def test_a_chapter_has_the_title_of_the_map():
    titles = [title for part in PARTS.values() for title in part]
    for number, name in finished().items():
        notebook = json.loads((ROOT / "notebooks" / name).read_text())
        first = "".join(notebook["cells"][0]["source"]).splitlines()[0]
        assert first == f"# {titles[number - 1]}"


@pytest.mark.parametrize(
    ("seen", "unseen", "said"),
    [
        ((0.90, 0.94), (0.92, 0.98), "overlap: 50 clips of seen and 40 of unseen"),
        ((0.90, 0.94), (0.94, 0.98), "do not show a difference"),
        ((0.90, 0.93), (0.95, 0.98), "do not overlap: the weights do better on unseen"),
        ((0.90, 0.93), (0.70, 0.80), "do not overlap: the weights do better on seen"),
    ],
)
def test_the_first_page_compares_the_intervals(seen, unseen, said):
    rows = {
        name: {"interval": list(ends), "caption_accuracy": sum(ends) / 2, "clips": clips}
        for name, ends, clips in (("seen", seen, 50), ("unseen", unseen, 40))
    }
    assert said in comparison(rows)
