"""Set-up for all tests: shapes checked at run time, fair use of the cores, no hidden skip."""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest

import tools.shape_checks  # noqa: F401  the hook below looks it up by name

# Before any import of the package: from here on every annotated shape is checked at every call.
jaxtyping.install_import_hook("t2v_mini", "tools.shape_checks.shapes_only")


def pytest_configure(config: pytest.Config) -> None:
    """Share the cores among the workers, and make property tests repeat the same cases everywhere."""
    import torch
    from hypothesis import settings

    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    settings.register_profile("repository", deadline=None, derandomize=True)
    settings.load_profile("repository")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _wrong_shapes_reach_the_code(request: pytest.FixtureRequest) -> Iterator[None]:
    """Under the mark `wrong_shapes`, let wrong shapes through to the `ValueError` that the test expects."""
    if request.node.get_closest_marker("wrong_shapes") is None:
        yield
        return
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Count every test that did not run, with its reason."""
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[reason.removeprefix("Skipped: ")] += 1
    for report in terminalreporter.stats.get("xfailed", []):
        reasons[f"expected to fail: {getattr(report, 'wasxfail', '')}"] += 1
    terminalreporter.section("tests that did not count")
    terminalreporter.line(f"{reasons.total()} skipped or expected to fail")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count:5}  {reason}")
