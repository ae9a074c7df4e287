"""Keep Thebe out of the pages.

Jupyter Book always loads sphinx_thebe, which declares the same constants twice on a page (an error
in the browser's console) and names a script on another host. The book offers Colab instead, so both
handlers that put Thebe into a page are taken away.
"""

INTO_PAGES = ("env-before-read-docs", "doctree-resolved")


def remove_handlers(app, config):
    for event in INTO_PAGES:
        handlers = app.events.listeners[event]
        handlers[:] = [one for one in handlers if not one.handler.__module__.startswith("sphinx_thebe")]


def setup(app):
    app.connect("config-inited", remove_handlers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
