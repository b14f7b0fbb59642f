"""The ``ryu-manager`` command: Ryu 4.34 as released, made to start and stop well on today's Python.

Owns what has to happen before Ryu is imported and around its ``main``: the name that eventlet
dropped, our command-line option, listening sockets that are ours alone, and the way a signal ends
the process. It must know nothing about our configuration or our application: every Ryu
application runs under it. Why each of these is needed is told in
``docs/adr/0001-ryu-on-todays-python.md``.

Ryu is imported inside functions, because it can be imported only after ``prepare_eventlet``.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

DEFAULT_API_HOST = "127.0.0.1"
CANNOT_START = 2
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# One Ctrl-C may reach us twice: from the terminal and from the process that started us.
_SAME_REQUEST_S = 1.0


def main(args: Sequence[str] | None = None) -> int:
    """Run Ryu's manager on `args` (default: the command line) until a signal; the exit code.

    0 after a stop by SIGINT or SIGTERM, `CANNOT_START` with one line on stderr when an application
    is not there or a port is taken. Whatever an application raises is left to be seen.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    hold_stop()
    try:
        prepare_eventlet(patch_threads="--enable-debugger" not in arguments)
        spare_setuptools()
        register_options()
        stop = Stop()
        stop.on_signals()
        listen_alone(stop)
        _run(arguments)
    except KeyboardInterrupt:
        return 0
    except CannotStartError as error:
        return _refuse(str(error))
    return _refuse(stop.failure) if stop.failure else 0


def hold_stop() -> None:
    """Let a request to stop wait until ``Stop`` can heed it, over an ``exec`` too.

    In the middle of an import it would be a traceback, or be lost: what a callback of Python's
    import locks raises is printed and forgotten.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


class CannotStartError(Exception):
    """Ryu cannot do what was asked; the message is one line for the user."""


def prepare_eventlet(*, patch_threads: bool = True) -> None:
    """Make eventlet what Ryu 4.34 expects, before the first ``import ryu``; idempotent.

    Ryu returns ``eventlet.wsgi.ALREADY_HANDLED`` as the body of a response that a websocket has
    already sent; eventlet 0.30.3 replaced it by a flag that its websockets set themselves, so any
    empty body does. Patching first, and not after Ryu's imports, leaves no lock ungreened.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
        import eventlet
        import eventlet.wsgi
    eventlet.monkey_patch(thread=patch_threads)
    if not hasattr(eventlet.wsgi, "ALREADY_HANDLED"):
        eventlet.wsgi.ALREADY_HANDLED = ()


def spare_setuptools() -> None:
    """Let Ryu's ``import distutils`` find Python's own, where there is one; idempotent.

    Wherever setuptools is installed it answers that import itself, with all of setuptools: a
    quarter of the time that a controller takes to start.
    """
    shim = sys.modules.get("_distutils_hack")
    if shim is not None:
        shim.remove_shim()
        if importlib.util.find_spec("distutils") is None:
            shim.add_shim()


def register_options() -> None:
    """Add ``--sn-config`` to Ryu's options and let its REST server listen on loopback only."""
    from ryu import cfg
    from ryu.app import wsgi

    cfg.CONF.register_cli_opt(
        cfg.StrOpt(
            "sn-config",
            metavar="FILE",
            help="sncontroller's configuration file (default: $SNCONTROLLER_CONFIG)",
        )
    )
    cfg.CONF.unregister_opt(cfg.StrOpt("wsapi-host", default=wsgi.DEFAULT_WSGI_HOST))
    cfg.CONF.register_cli_opt(
        cfg.StrOpt(
            "wsapi-host",
            default=DEFAULT_API_HOST,
            help=f"webapp listen host (default {DEFAULT_API_HOST}: this machine only)",
        )
    )


class Stop:
    """Ends the main green thread from anywhere, with Ryu's own clean-up still to come.

    Python's default for Ctrl-C is to raise KeyboardInterrupt in whatever green thread happens to
    run; where that is not the hub, it is logged as that thread's error and lost. SIGTERM closes no
    application at all. Here a signal only writes a byte to a pipe, which also wakes the hub at once
    for any other signal handler that an application installs.
    """

    def __init__(self) -> None:
        import eventlet

        self.failure: str | None = None
        self._main = eventlet.getcurrent()
        self._asked_at_s: float | None = None

    def on_signals(self) -> None:
        """Stop at SIGINT and SIGTERM; one that is ignored (a shell's background job) stays so."""
        import eventlet

        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._insist)
        eventlet.spawn_n(self._watch, read_fd)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def fail(self, reason: str) -> None:
        """Stop because of `reason`, from any green thread; raises where the main one calls it."""
        import eventlet

        self.failure = self.failure or reason
        if eventlet.getcurrent() is self._main:
            raise CannotStartError(reason)
        self._interrupt()

    def _interrupt(self) -> None:
        from eventlet import hubs

        hubs.get_hub().schedule_call_global(0, self._main.throw, KeyboardInterrupt)

    def _watch(self, read_fd: int) -> None:
        from eventlet import hubs

        while True:
            hubs.trampoline(read_fd, read=True)
            if set(os.read(read_fd, 512)) & set(STOP_SIGNALS):
                self._interrupt()
                return

    def _insist(self, signum: int, _frame: FrameType | None) -> None:
        """Let a second request, if it is not the first one's echo, end the process at once."""
        now_s = time.monotonic()
        if self._asked_at_s is None:
            self._asked_at_s = now_s
        elif now_s - self._asked_at_s > _SAME_REQUEST_S:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)


def listen_alone(stop: Stop) -> None:
    """Let every listening socket of Ryu's be the only one on its port, or end with one line.

    eventlet sets SO_REUSEPORT, with which two controllers share a port without knowing and the
    kernel deals the switches out between them. A port that is taken would be a traceback in a green
    thread, and a controller that goes on running, deaf.
    """
    import eventlet
    import greenlet

    listen = eventlet.listen

    def listen_or_stop(address: Any, *args: Any, **options: Any) -> Any:
        options.setdefault("reuse_port", False)
        try:
            return listen(address, *args, **options)
        except OSError as error:
            stop.fail(f"cannot listen on {_shown(address)}: {error.strerror or error}")
            raise greenlet.GreenletExit from None

    eventlet.listen = listen_or_stop


def _run(arguments: list[str]) -> None:
    from oslo_config import cfg
    from ryu.cmd import manager

    try:
        manager.main(arguments, prog="ryu-manager")
    except cfg.Error as error:
        raise CannotStartError(str(error)) from None
    except (ModuleNotFoundError, TypeError) as error:
        name = _missing_application(error, manager.CONF.app_lists + manager.CONF.app)
        if name is None:
            raise
        raise CannotStartError(
            f"no application {name}: name an installed module or the path of a Python file"
        ) from None


def _missing_application(error: Exception, asked: Sequence[str]) -> str | None:
    """The application in `asked` that is not there itself; None if `error` is about another thing.

    importlib answers a path that begins with a dot and does not exist with a TypeError.
    """
    names = [name for entry in asked for name in entry.split(",")]
    if isinstance(error, ModuleNotFoundError):
        return next((name for name in names if f"{name}.".startswith(f"{error.name}.")), None)
    return next((name for name in names if name[:1] == "." and not os.path.exists(name)), None)


def _shown(address: Any) -> str:
    if isinstance(address, str):
        return address
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refuse(reason: str) -> int:
    print(f"ryu-manager: {reason}", file=sys.stderr)
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
