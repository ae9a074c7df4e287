"""Leave out sphinx-thebe's scripts: Jupyter Book adds them twice, and they name another host."""

from sphinx.application import Sphinx


def drop(app: Sphinx, pagename: str, templatename: str, context: dict, doctree: object) -> None:
    """Keep every script of the page but thebe's."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(getattr(script, "attributes", "")).lower() + str(script).lower()
    ]


def setup(app: Sphinx) -> dict:
    """Register late: after sphinx-thebe has added its scripts."""
    app.connect("html-page-context", drop, priority=950)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
