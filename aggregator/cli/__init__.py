"""The command `spillover`. Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 done with more gaps
than allowed, or a stress that read nothing or did not settle, 130 cancelled.

Imports of the numeric and chain libraries happen inside commands: `--help` and usage errors answer at once.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from aggregator import __version__
from aggregator.cli import show, typed
from aggregator.cli.output import (
    err,
    finish_output,
    out,
    output_failed,
    prepare_streams,
    print_json,
    print_problem,
    progress,
)
from aggregator.core.errors import ConfigError, SpilloverError, near_miss

app = typer.Typer(
    name="spillover",
    help="What everyone owes on-chain as one balance sheet, and what breaks next.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

CANCELLED = 128 + 2  # as a shell calls a command that SIGINT ended
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file; config/default.toml otherwise.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
AtOption = Annotated[
    str, typer.Option("--at", help="Cut: digest prefix, block, or a time in UTC or unix seconds; else the last.")
]


def main() -> NoReturn:
    """Entry point: one error object for everything a person can cause, and for what he cannot."""
    as_json = "--json" in sys.argv
    code = 1
    try:
        code = _run(as_json)
    except SystemExit as exit_:  # of the parser, where the reader of a pipe went away
        code = exit_.code if isinstance(exit_.code, int) else 1
    finally:
        if trouble := finish_output():
            print_problem(trouble, as_json)
            code = code or trouble.exit_code
    sys.exit(code)


def _run(as_json: bool) -> int:
    """Exit code of the command that was typed."""
    try:
        prepare_streams()
        _log()
        code = app(standalone_mode=False)
        if code == CANCELLED:  # what the parser makes of Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SpilloverError as error:
        return _told(error, as_json)
    except typer.Exit as exit_:
        return exit_.exit_code
    except (KeyboardInterrupt, typer.Abort):
        err.print("cancelled; what was stored before stays as it was")
        return CANCELLED
    except BrokenPipeError:
        return 1
    except OSError as error:
        if output_failed():
            return 1  # `main` says why
        found = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        return _told(SpilloverError("a file cannot be used", expected="a path to read or write", found=found), as_json)
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "show"):  # a usage error of the parser
            if as_json:
                return _told(ConfigError(error.format_message(), fix=f"{typed.command()} --help"), as_json)
            error.show()
            return 2
        if logging.root.isEnabledFor(logging.DEBUG):
            raise
        return _told(_defect(error), as_json)


def _told(error: SpilloverError, as_json: bool) -> int:
    error.fix = typed.runnable(error.fix)
    print_problem(error, as_json)
    return error.exit_code


def _log() -> None:
    level = os.environ.get("SPILLOVER_LOG", "ERROR").upper()
    if level not in LEVELS:
        raise ConfigError("SPILLOVER_LOG is no level", expected=", ".join(LEVELS), found=level)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s %(message)s")


def _defect(error: Exception) -> SpilloverError:
    """A mistake of ours, by its place alone: the message of a stranger's exception may hold a key."""
    places = traceback.extract_tb(error.__traceback__)
    ours = [p for p in places if "aggregator" in Path(p.filename).parts or "adapters" in Path(p.filename).parts]
    where = f"{Path(ours[-1].filename).parent.name}/{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return SpilloverError(
        "spillover has a defect here; what was stored before stays as it was",
        expected="no exception",
        found=f"{type(error).__name__} in {where}",
        fix="report it; SPILLOVER_LOG=DEBUG shows the whole traceback",
    )


def _version(show: bool) -> None:
    if show:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False) -> None: ...


@app.command()
def demo(
    directory: Annotated[Path, typer.Option("--dir", help="Where report, store and config.toml go.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Replay three recorded chains through the real code path: store, snapshot, graph, stress, report."""
    from aggregator.app.demo import run_demo

    with progress(as_json) as tick:
        answer = run_demo(directory, tick)
    if as_json:
        print_json(answer.summary)
        return
    show.stress(answer.summary)
    weakest = show.fragile(answer.summary["wallets"])
    wallet_address = weakest[0]["holder"] if weakest else "0x..."
    out.print(f"\nreport   {answer.report}\nstore    {answer.store}\nconfig   {answer.config}", markup=False)
    out.print("\n[bold]next[/]")
    me, config = typed.command(), shlex.quote(str(answer.config))
    for line in (
        f"{me} wallet {wallet_address} --config {config}",
        f"{me} explain wallet {wallet_address} health_factor --config {config}",
        f"{me} serve --config {config}",
        f"SPILLOVER_RPC_1=https://your-endpoint {me} collect      # your own RPC: Ethereum, then 10, 42161, 8453",
        f"{me} wallet 0xYourAddress      # your own wallet, after collect",
    ):
        out.print("  " + line, markup=False)


@app.command()
def collect(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the calls, write nothing.")] = False,
) -> None:
    """Read every configured deployment at one cut into the store."""
    from aggregator.app import App

    with App.open(config) as spill, progress(as_json) as tick:
        if dry_run:
            estimate = spill.dry_run(tick)
            print_json(estimate) if as_json else show.dry_run(estimate)
            raise typer.Exit(3 if any(row["problem"] for row in estimate) else 0)
        answer = spill.collect(tick)
    if as_json:
        print_json(answer.data)
    else:
        show.collect(answer.data, answer.gaps)
    raise typer.Exit(3 if answer.too_many_gaps else 0)


@app.command()
def record(
    file: Annotated[Path, typer.Argument(help="Recording to write (.jsonl.gz).")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Collect and keep every answer, so that the same run can be replayed without an endpoint."""
    from aggregator.app import App

    with App.open(config) as spill, progress(as_json) as tick:
        answer = spill.collect(tick, record=file)
    print_json(answer.data) if as_json else show.collect(answer.data, answer.gaps)
    raise typer.Exit(3 if answer.too_many_gaps else 0)


@app.command()
def stress(
    scenario: Annotated[str, typer.Argument(help="Scenario file, or a name from config/scenarios.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the HTML report here, its JSON beside it.")
    ] = None,
    at: AtOption = "",
) -> None:
    """Run one contagion stress on the last cut."""
    from aggregator.app import App

    with App.open(config) as spill, progress(as_json) as tick:
        answer = spill.stress(scenario, at, tick, report)
        age_s, wanting = spill.age_s(at), spill.wanting(answer, at)
    print_json(answer) if as_json else show.stress(answer, age_s)
    if report is not None:
        err.print(f"report {report}", markup=False)
    raise typer.Exit(3 if wanting else 0)


@app.command()
def wallet(
    address: Annotated[str, typer.Argument(help="EVM address, or an account of an imported book.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    at: AtOption = "",
) -> None:
    """Where a wallet stands on every chain: positions, exact health factors, Greeks, gaps."""
    from aggregator.app import App

    with App.open(config) as spill:
        answer = spill.wallet(address, at)
    print_json(answer) if as_json else show.wallet(answer)


@app.command()
def exposure(
    asset: Annotated[str, typer.Argument(help="Symbol, on every chain; or an asset id.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    at: AtOption = "",
) -> None:
    """Who holds an asset, directly and through claims, by market and side."""
    from aggregator.app import App

    with App.open(config) as spill:
        answer = spill.exposure(asset, at)
    if as_json:
        print_json(answer)
    else:
        show.exposure(answer)


@app.command()
def graph(
    output: Annotated[Path, typer.Option("-o", "--output", help="File by suffix: .graphml or .json.")],
    config: ConfigOption = None,
    at: AtOption = "",
) -> None:
    """Export the dependency graph of the last cut."""
    from aggregator.app import App

    with App.open(config) as spill:
        spill.export_graph(output, at)
    err.print(f"graph {output}", markup=False)


@app.command()
def explain(
    words: Annotated[list[str], typer.Argument(help="wallet ADDRESS FIGURE | an error code such as SPL-210")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
    at: AtOption = "",
) -> None:
    """Open a number into formula, inputs, rounding and the contract calls that made it."""
    from aggregator.report.errors import error_page

    if len(words) == 1 and words[0].upper().startswith("SPL-"):
        code = words[0].upper()
        title, page = error_page(code)
        page = typed.runnable(page)
        if as_json:
            print_json({"code": code, "title": title, "page": page})
        else:
            out.print(f"{code}  {title}\n{page}", markup=False)
        return
    if len(words) != 3 or words[0] != "wallet":
        raise ConfigError(
            "explain what?",
            expected="wallet ADDRESS health_factor | collateral_usd | debt_usd | requirement_usd | <asset>:<side>, "
            "or an error code",
            found=" ".join(words),
            fix="" if words[0] == "wallet" else near_miss(words[0], ["wallet"]),
        )
    from aggregator.app import App

    with App.open(config) as spill:
        tree = spill.explain_wallet(words[1], words[2], at)
    if as_json:
        print_json(tree)
    else:
        from aggregator.report.explain import text

        out.print(text(tree), markup=False)


@app.command("import")
def import_(
    directory: Annotated[Path, typer.Argument(help="Folder of CSV or Parquet files, see docs/import.md.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Load your own extract of a lending book as a cut of its own."""
    from aggregator.app import App

    with App.open(config) as spill:
        answer = spill.import_book(directory)
    print_json(answer.data) if as_json else show.collect(answer.data, answer.gaps)
    raise typer.Exit(3 if answer.too_many_gaps else 0)


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str, typer.Option("--host")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8080,
) -> None:
    """Answer wallet and stress requests over HTTP from the last cut."""
    from aggregator.api import serve as run
    from aggregator.app import App

    with App.open(config) as spill:
        err.print(f"http://{host}:{port}/openapi.json says what can be asked; Ctrl-C stops", markup=False)
        run(spill, host, port)


@app.command()
def schedule(
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Run one round now and stop.")] = False,
) -> None:
    """Collect and stress on an interval into the same store."""
    from aggregator.app import App
    from aggregator.jobs import schedule as run

    if "SPILLOVER_LOG" not in os.environ:
        logging.getLogger("spillover.jobs").setLevel(logging.INFO)  # a line a round, so that a person sees it work
    with App.open(config) as spill:
        done = run(spill, once=once)
    raise typer.Exit(0 if done else 1)


@app.command()
def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check endpoints, chain ids, finality, multicall, database and migrations, and say how to mend each."""
    from aggregator.app.doctor import examine

    findings = [finding | {"fix": typed.runnable(finding["fix"])} for finding in examine(config)]
    if as_json:
        print_json(findings)
    else:
        width = max(len(f["check"]) for f in findings)
        for f in findings:
            mark = {"ok": "[green]ok[/]  ", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}[f["status"]]
            out.print(f"{mark}  {f['check']:<{width}}  ", end="")
            out.print(f["detail"], markup=False)
            if f["fix"]:
                out.print(f"      to mend: {f['fix']}", markup=False)
    raise typer.Exit(1 if any(f["status"] == "fail" for f in findings) else 0)


@app.command()
def bench(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run; all otherwise.")] = None,
    as_json: JsonOption = False,
    full: Annotated[bool, typer.Option("--full", help="Full sizes instead of quick ones.")] = False,
) -> None:
    """Ratios of two things measured in one run; nothing here is a bare time."""
    from aggregator.app.bench import run_benchmarks

    with progress(as_json) as tick:
        rows = run_benchmarks(names or [], quick=not full, tick=tick)
    if as_json:
        print_json(rows)
    else:
        show.bench(rows)
