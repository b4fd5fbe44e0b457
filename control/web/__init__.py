"""The web panel: pages for people, drawn on the server from the same store as the API."""

from quart import Quart

from control.web import words


def register(app: Quart) -> None:
    """Add every page, its headers and its error pages to the application."""
    from control.web import (
        acts,
        bulk,
        domains,
        entries,
        errors,
        events,
        figures,
        headers,
        history,
        item,
        messages,
        nodes,
        overview,
        quarantine,
        settings,
        shell,
        signin,
        stranger,
    )

    app.jinja_env.filters.update(words.FILTERS)
    app.jinja_env.globals["asset"] = shell.asset
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    headers.register(app)
    errors.register(app)
    mail = (overview, quarantine, acts, bulk, item, messages)
    pages = (signin, domains, settings, history, entries, nodes, figures)
    for each in (*mail, *pages, events, stranger):
        app.register_blueprint(each.blueprint)
