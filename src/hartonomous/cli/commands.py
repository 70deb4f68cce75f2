"""The one table of commands: where each is, its line in the help, and the section it stands in.

Strings only, so that the help and the completion of commands load none of them. The help line is
the first line of the command's docstring; a test compares the two.
"""

from typing import NamedTuple

STORE, FIND, COMPARE, OUT = "Store", "Find", "Compare", "Out"
CARE, COPY, WORK, SETUP = "Care", "Copy", "Work", "Setup"
SECTIONS = (STORE, FIND, COMPARE, OUT, CARE, COPY, WORK, SETUP)
"""Sections of the help, in their order."""


class Entry(NamedTuple):
    """A command: ``module:attribute`` of the click command, one line of help, its section."""

    target: str
    help: str
    section: str


COMMANDS: dict[str, Entry] = {
    "init": Entry(
        "hartonomous.cli.init:command", "Make an empty store and print where it is.", STORE
    ),
    "add": Entry(
        "hartonomous.cli.add:command",
        "Add files, model folders, trees, hub caches or Ollama's folder.",
        STORE,
    ),
    "estimate": Entry(
        "hartonomous.cli.estimate:command",
        "Tell what the store would need for files, storing nothing.",
        STORE,
    ),
    "ls": Entry("hartonomous.cli.ls:command", "List artifacts.", STORE),
    "show": Entry(
        "hartonomous.cli.show:command", "Show everything that is known of one version.", STORE
    ),
    "label": Entry(
        "hartonomous.cli.label:command", "Point labels to a version, or take them away.", STORE
    ),
    "mv": Entry("hartonomous.cli.mv:command", "Give an artifact another name.", STORE),
    "rm": Entry("hartonomous.cli.rm:command", "Put versions into the trash.", STORE),
    "drop": Entry("hartonomous.cli.drop:command", "Drop a part of one version.", STORE),
    "undo": Entry(
        "hartonomous.cli.undo:command", "Take back the newest change, or a given one.", STORE
    ),
    "log": Entry(
        "hartonomous.cli.log:command", "Show what happened in the store, newest first.", STORE
    ),
    "search": Entry("hartonomous.cli.search:command", "Find passages, models and tensors.", FIND),
    "similar": Entry(
        "hartonomous.cli.similar:command",
        "Find stored pictures that are the same, or look alike.",
        FIND,
    ),
    "encoders": Entry(
        "hartonomous.cli.encoders:command",
        "Keep models that turn texts and pictures into vectors.",
        FIND,
    ),
    "embed": Entry(
        "hartonomous.cli.embed:command",
        "Compute the vectors of what was added, and remove those of what is gone.",
        FIND,
    ),
    "spaces": Entry(
        "hartonomous.cli.spaces:command", "List, switch, remove or bring embedding spaces.", FIND
    ),
    "views": Entry(
        "hartonomous.cli.views:command",
        "Show, rebuild or drop what was read of documents and pictures.",
        FIND,
    ),
    "diff": Entry("hartonomous.cli.diff:command", "Compare two models tensor by tensor.", COMPARE),
    "lineage": Entry(
        "hartonomous.cli.lineage:command",
        "Show what a model came from and what came from it.",
        COMPARE,
    ),
    "relate": Entry(
        "hartonomous.cli.relate:command", "State what one version is to another.", COMPARE
    ),
    "impact": Entry(
        "hartonomous.cli.impact:command",
        "Say what depends on a version, and what removing it would free.",
        COMPARE,
    ),
    "explain": Entry(
        "hartonomous.cli.explain:command", "Say how a tensor is kept, and who shares it.", COMPARE
    ),
    "scan": Entry(
        "hartonomous.cli.scan:command",
        "Tell what would run when somebody loads a model; nothing is loaded.",
        COMPARE,
    ),
    "get": Entry("hartonomous.cli.get:command", "Write the exact files of an artifact.", OUT),
    "cat": Entry(
        "hartonomous.cli.cat:command", "Print a tensor, or write its bytes or a whole file.", OUT
    ),
    "export": Entry(
        "hartonomous.cli.export:command", "Write artifacts as plain files below a folder.", OUT
    ),
    "path": Entry(
        "hartonomous.cli.path:command",
        "Print the path of a plain, read-only file or folder.",
        OUT,
    ),
    "stats": Entry(
        "hartonomous.cli.stats:command", "Show what is stored, what it takes, and why.", CARE
    ),
    "verify": Entry(
        "hartonomous.cli.verify:command", "Check that every stored byte is what it was.", CARE
    ),
    "repair": Entry("hartonomous.cli.repair:command", "Rebuild the catalog from the packs.", CARE),
    "gc": Entry("hartonomous.cli.gc:command", "Free what nothing needs.", CARE),
    "repack": Entry(
        "hartonomous.cli.repack:command", "Encode anew what would take less now.", CARE
    ),
    "doctor": Entry(
        "hartonomous.cli.doctor:command", "Look at the program, the machine and the store.", CARE
    ),
    "migrate": Entry(
        "hartonomous.cli.migrate:command", "Bring an older store's catalog up to date.", CARE
    ),
    "backup": Entry(
        "hartonomous.cli.backup:command", "Copy the store into a folder of snapshots.", COPY
    ),
    "restore": Entry("hartonomous.cli.restore:command", "Make a store from a snapshot.", COPY),
    "push": Entry(
        "hartonomous.cli.push:command", "Bring another store what it lacks of this one.", COPY
    ),
    "pull": Entry(
        "hartonomous.cli.pull:command", "Bring this store what it lacks of another one.", COPY
    ),
    "sync": Entry(
        "hartonomous.cli.sync:command", "Bring two stores to the same names and versions.", COPY
    ),
    "catalog": Entry(
        "hartonomous.cli.catalog:command",
        "Move the catalog between a file and a server, and say who may use it.",
        COPY,
    ),
    "worker": Entry("hartonomous.cli.worker:command", "Run jobs in the background.", WORK),
    "jobs": Entry(
        "hartonomous.cli.jobs:command", "Look at jobs, wait for them, retry or cancel them.", WORK
    ),
    "schedule": Entry("hartonomous.cli.schedule:command", "Have work done again and again.", WORK),
    "events": Entry(
        "hartonomous.cli.events:command", "Tell what happens in the store, as CloudEvents.", WORK
    ),
    "completions": Entry(
        "hartonomous.cli.completions:command", "Print the completion script of a shell.", SETUP
    ),
    "config": Entry("hartonomous.cli.config:command", "Show every setting and its source.", SETUP),
    "demo": Entry(
        "hartonomous.cli.demo:command", "Run the main job on a real model and show it.", SETUP
    ),
    "help": Entry("hartonomous.cli.help:command", "Show the help of a command.", SETUP),
}
