"""What somebody knows of a store who hears its events and nothing else."""

from typing import Any

import hartonomous as hn
from hartonomous.core.event import Event


class Mirror:
    """A store as its events tell it, by the ids of artifacts."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.versions: dict[str, set[int]] = {}
        self.trash: dict[str, set[int]] = {}
        self.labels: dict[tuple[str, str], int] = {}
        self.relations: set[tuple[str, int, str, int]] = set()

    def hear(self, event: Event) -> None:
        data, kind = event.data, event.type.partition(".")[2]
        uid = data.get("artifact", "")
        match event.type:
            case "artifact.added" | "artifact.updated":
                self.names[uid] = data["name"]
                assert data["version"] not in self.versions.setdefault(uid, set())
                self.versions[uid].add(data["version"])
            case "artifact.removed":
                self.versions[uid].remove(data["version"])
                self.trash.setdefault(uid, set()).add(data["version"])
                assert data["remaining_count"] <= len(self.versions[uid])
            case "artifact.restored":
                self.trash[uid].remove(data["version"])
                self.versions[uid].add(data["version"])
            case "artifact.purged":
                self.trash[uid].remove(data["version"])
                gone = (uid, data["version"])
                self.relations = {one for one in self.relations if gone not in (one[:2], one[2:])}
            case "artifact.moved":
                assert self.names[uid] == data["previous_name"] == event.subject
                self.names[uid] = data["name"]
            case "artifact.labelled":
                assert self.labels.get((uid, data["label"])) == data["previous_version"]
                assert data["version"] in self.versions[uid]
                self.labels[uid, data["label"]] = data["version"]
            case "artifact.unlabelled":
                assert self.labels.pop((uid, data["label"])) == data["previous_version"]
            case "relation.created" | "relation.removed":
                key = tuple(data[end][key] for end in ("source", "target")
                            for key in ("artifact", "version"))  # fmt: skip
                change = self.relations.add if kind == "created" else self.relations.remove
                change(key)  # type: ignore[arg-type]

    def shown(self) -> dict[str, Any]:
        """Return what ``shown_by`` returns of the store itself."""
        specs = {(uid, n): f"{self.names[uid]}@{n}"
                 for uid, some in self.versions.items() for n in some}  # fmt: skip
        labels: dict[str, set[str]] = {spec: set() for spec in specs.values()}
        for (uid, label), number in self.labels.items():
            labels[specs[uid, number]].add(label)
        related = [(one[:2], one[2:]) for one in self.relations]
        pairs = {(specs[a], specs[b]) for a, b in related if a in specs and b in specs}
        return {"labels": labels, "relations": pairs}


def shown_by(store: hn.Store) -> dict[str, Any]:
    return {
        "labels": {f"{row.name}@{row.number}": set(row.labels) for row in store.ls(versions=True)},
        "relations": {(one.source, one.target) for one in store.relations()},
    }
