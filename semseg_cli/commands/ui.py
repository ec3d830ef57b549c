"""The `ui` command: MLflow's web pages for the store in use.

No torch, and no mlflow until a store is opened.
"""

import os
import sys
import webbrowser

from semseg_cli import tracking
from semseg_cli.errors import SemsegError
from semseg_cli.interrupts import settle
from semseg_cli.settings.output import Ui
from semseg_cli.show import console
from semseg_cli.tracking.store_address import public
from semseg_cli.tracking.ui_server import HOST, choose_port, serving


def open_ui(settings: Ui) -> None:
    """Opens the runs of a store in MLflow's UI.

    A tracking server shows its own pages, and this comes back at once. For a database a server is
    run on this machine, for this machine alone, until Ctrl-C: the normal way to end it.

    Raises:
        SemsegError: there is no such store, experiment or run, or the port cannot be taken.
    """
    uri = tracking.resolve_uri(settings.tracking_uri)
    if uri.startswith("databricks"):
        raise SemsegError("Databricks shows runs in its own pages: open your workspace there.")
    if uri.startswith(("http://", "https://")):
        _show(public(uri) + tracking.runs_page(uri, settings.experiment), settings)
        return
    port = choose_port(settings.port)
    page = tracking.runs_page(uri, settings.experiment)
    with serving(uri, port) as server:
        _show(f"http://{HOST}:{port}{page}", settings)
        console.say(f"MLflow serves {public(uri)} until you press Ctrl-C.")
        try:
            server.wait()
        except KeyboardInterrupt:
            settle()
            return


def _show(address: str, settings: Ui) -> None:
    out = console.stdout()
    out.print(address, markup=False, soft_wrap=True)
    out.file.flush()
    if not settings.no_browser and sys.stdout.isatty() and _has_screen():
        webbrowser.open(address)


def _has_screen() -> bool:
    """Whether a browser would get a window: one in the terminal would be in the way."""
    needs_display = sys.platform not in ("darwin", "win32")
    return not needs_display or bool({"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ))
