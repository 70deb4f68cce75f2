"""The store as Python code sees it: the composition root. It forwards; operations do the work."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from hartonomous.core.closing import Closing
from hartonomous.core.kept import Kept
from hartonomous.operations import add as adding
from hartonomous.operations import backup as backing_up
from hartonomous.operations import change as changing
from hartonomous.operations import collect as collecting
from hartonomous.operations import convert as converting
from hartonomous.operations import diff as diffing
from hartonomous.operations import embed as embedding
from hartonomous.operations import encoders as encoding
from hartonomous.operations import estimate as estimating
from hartonomous.operations import events as feeding
from hartonomous.operations import explain as explaining
from hartonomous.operations import get as getting
from hartonomous.operations import impact as weighing
from hartonomous.operations import journal as recounting
from hartonomous.operations import lineage as descent
from hartonomous.operations import listing
from hartonomous.operations import path as plain_paths
from hartonomous.operations import read as reading
from hartonomous.operations import relate as relating
from hartonomous.operations import repack as repacking
from hartonomous.operations import scan as scanning
from hartonomous.operations import search as finding
from hartonomous.operations import similar as resembling
from hartonomous.operations import spaces as comparing
from hartonomous.operations import stats as counting
from hartonomous.operations import tensor_search as searching
from hartonomous.operations import transfer as transferring
from hartonomous.operations import verify as verifying
from hartonomous.operations import views as deriving
from hartonomous.packs import directory
from hartonomous.packs.open_files import OpenFiles
from hartonomous.ports.progress import Progress
from hartonomous.settings import Settings
from hartonomous.worker.queue import Jobs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hartonomous.packs.arrays import Rows
    from hartonomous.packs.collected import Collected
    from hartonomous.packs.parts import StoreParts

Places = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Store(Closing):
    """Everything at one place. Open it with ``hartonomous.open``; use it as a context manager.

    Safe to use from several threads and processes at once.
    """

    def __init__(self, held: directory.OpenDirectory, settings: Settings) -> None:
        self._held = held
        self.files, self.settings = OpenFiles(held.parts), settings
        self.path, self.id = held.parts.directory, held.card.id

    @property
    def parts(self) -> StoreParts:
        """What the store is made of, for one piece of work."""
        return self._held.fresh_parts()

    @Kept
    def jobs(self) -> Jobs:
        """The queue of background work."""
        return Jobs(self.parts)

    @Kept
    def events(self) -> feeding.Feed:
        """The change feed, made when used."""
        return feeding.Feed(self.parts, self.id)

    @Kept
    def views(self) -> deriving.StoreViews:
        """What was read of documents and pictures."""
        return deriving.StoreViews(self.parts, self.files)

    @Kept
    def spaces(self) -> comparing.Spaces:
        """Embedding spaces; making them takes 60 ms."""
        return comparing.Spaces(self.parts, self.files)

    @Kept
    def encoders(self) -> encoding.Encoders:
        """Models that turn texts and pictures into vectors, made when used."""
        return encoding.Encoders(self.parts, self.files, self.add)

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def close(self) -> None:
        """Close the store. Arrays stay valid; files and readers raise UsageError when they read."""
        with ExitStack() as ends:  # what fails to end keeps nothing else from it
            ends.callback(self._held.close)
            ends.callback(self.files.close)
            if (used := self.__dict__.get("spaces")) is not None:
                ends.callback(used.close)

    # -- in

    def add(
        self,
        paths: Places,
        *,
        name: str | None = None, labels: Iterable[str] = (), tags: Iterable[str] = (),
        metadata: dict[str, str] | None = None, update: bool = False, move: bool = False,
        include: Iterable[str] = (), exclude: Iterable[str] = (), hidden: bool = False,
        delta: bool = True, dry_run: bool = False, progress: Progress | None = None,
    ) -> adding.AddReport:  # fmt: skip
        """Add files, model folders, trees, hub caches or Ollama's folder. See `hart add`.

        ``dry_run`` stores nothing and returns what would be done, with estimated stored bytes.
        With ``delta`` a tensor that resembles a stored one may be kept as what differs from it.
        """
        options = adding.AddOptions(
            name=name, labels=tuple(labels), tags=tuple(tags), metadata=metadata or {},
            update=update, move=move, include=tuple(include), exclude=tuple(exclude), hidden=hidden,
            delta=delta,
        )  # fmt: skip
        many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        act = adding.foresee if dry_run else adding.add
        return act(self.parts, many, options=options, progress=progress)

    def add_stream(
        self, stream: BinaryIO, *,
        name: str, labels: Iterable[str] = (), tags: Iterable[str] = (),
        metadata: dict[str, str] | None = None, delta: bool = True,
        progress: Progress | None = None,
    ) -> adding.AddReport:  # fmt: skip
        """Add what a binary stream gives, under ``name``."""
        options = adding.AddOptions(
            name=name, labels=tuple(labels), tags=tuple(tags), metadata=metadata or {}, delta=delta
        )
        return adding.add_stream(self.parts, stream, options=options, progress=progress)

    def add_tensors(
        self,
        tensors: Mapping[Any, Any] | Iterable[tuple[str, Any]],
        name: str,
        *,
        optimizer: object = None, step: int | None = None, labels: Iterable[str] = (),
        tags: Iterable[str] = (), metadata: dict[str, str] | None = None,
        progress: Progress | None = None,
    ) -> adding.Added:  # fmt: skip
        """Add tensors as a safetensors file that never lies on a disk.

        ``tensors`` are arrays of numpy or tensors of PyTorch, by name: (nested) dictionaries, or an
        iterator of (name, tensor) pairs, of which one is held at a time. ``optimizer`` is a
        ``state_dict()``, kept as a file of its own. A ``step`` gives the label ``step-N``.
        """
        options = adding.AddOptions(
            name=name, labels=tuple(labels), tags=tuple(tags), metadata=metadata or {}
        )
        return adding.add_tensors(
            self.parts, tensors, optimizer=optimizer, step=step, options=options, progress=progress
        )

    def estimate(
        self, paths: Places, *, include: Iterable[str] = (), exclude: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> estimating.Estimate:  # fmt: skip
        """Tell what this store would need for what is at ``paths``. See `hart estimate`."""
        many = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        return estimating.estimate(
            self.parts, many, include=include, exclude=exclude, progress=progress
        )

    # -- names

    def ls(
        self, pattern: str | None = None, *, versions: bool = False, trash: bool = False,
        tag: str | None = None, kind: str | None = None,
    ) -> listing.Listing:  # fmt: skip
        """List artifacts, all their versions, or the trash."""
        return listing.list_artifacts(
            self.parts, pattern, all_versions=versions, trash=trash, tag=tag, kind=kind
        )

    def show(self, spec: str, *, tensors: bool = True) -> listing.Shown:
        """Return everything known of one version."""
        return listing.show(self.parts, spec, with_tensors=tensors)

    def label(self, spec: str, label: str, *, dry_run: bool = False) -> changing.Changed:
        """Point a label to a version."""
        return changing.label(self.parts, spec, label, dry_run=dry_run)

    def unlabel(self, name: str, label: str, *, dry_run: bool = False) -> changing.Changed:
        """Forget a label."""
        return changing.unlabel(self.parts, name, label, dry_run=dry_run)

    def mv(self, name: str, new_name: str, *, dry_run: bool = False) -> changing.Changed:
        """Give an artifact another name."""
        return changing.rename(self.parts, name, new_name, dry_run=dry_run)

    def rm(
        self, *specs: str, keep_last: int | None = None, dry_run: bool = False
    ) -> changing.Changed:
        """Put versions into the trash, by one change."""
        return changing.remove(self.parts, specs, keep_last=keep_last, dry_run=dry_run)

    def drop(self, spec: str, part: str, *, dry_run: bool = False) -> changing.Changed:
        """Drop a part of one version, ``weights`` or ``optimizer``. See `hart drop`."""
        return changing.drop(self.parts, spec, part, dry_run=dry_run)

    def undo(self, sequence: int | None = None, *, dry_run: bool = False) -> changing.Changed:
        """Take back the newest change, or a given one."""
        return changing.undo(self.parts, sequence, dry_run=dry_run)

    def log(self, *, limit: int = 50, only_undoable: bool = False) -> tuple[recounting.Entry, ...]:
        """Return what happened, newest first, with the numbers that ``undo`` takes."""
        return recounting.journal(self.parts, limit=limit, only_undoable=only_undoable)

    def names(self, beginning: str = "", *, limit: int = 100) -> list[str]:
        """Return names in use that begin with a text."""
        return listing.names(self.parts, beginning, limit=limit)

    # -- out

    def get(
        self, spec: str, output: str | os.PathLike[str] | None = None, *,
        members: Iterable[str] = (), force: bool = False, dry_run: bool = False,
        progress: Progress | None = None,
    ) -> getting.GetReport:  # fmt: skip
        """Write the exact files of a version."""
        return getting.get(
            self.parts, spec, output, members=members, force=force, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip

    def convert(
        self, spec: str, output: str | os.PathLike[str] | None = None, *, partial: bool = False,
        force: bool = False, dry_run: bool = False, progress: Progress | None = None,
    ) -> converting.ConvertReport:  # fmt: skip
        """Write a version's tensors as safetensors files. See `hart get --as safetensors`."""
        return converting.convert(
            self.parts, spec, output, partial=partial, force=force, dry_run=dry_run,
            progress=progress)  # fmt: skip

    def export_all(
        self, output: str | os.PathLike[str], *, names: Iterable[str] | None = None,
        versions: bool = False, force: bool = False, dry_run: bool = False,
        progress: Progress | None = None,
    ) -> list[getting.GetReport]:  # fmt: skip
        """Write everything, or the artifacts of these names or patterns, plain below a folder."""
        return getting.export_all(
            self.parts, Path(output), names=None if names is None else tuple(names),
            all_versions=versions, force=force, dry_run=dry_run, progress=progress,
        )  # fmt: skip

    def plain(
        self, spec: str, *, file: str | None = None, progress: Progress | None = None
    ) -> plain_paths.Plain:
        """Return the path (`os.PathLike`) of a plain, read-only file or folder. See `hart path`."""
        return plain_paths.path(
            self.parts, spec, file=file, cache_bytes=self.settings.cache_bytes,
            keep_hours=self.settings.cache_keep_hours, progress=progress,
        )  # fmt: skip

    def plain_cache(self) -> list[plain_paths.PlainHeld]:
        """List the cache of plain files, the least recently used first."""
        return plain_paths.listing(self.parts, keep_hours=self.settings.cache_keep_hours)

    def clear_plain_cache(self, *, force: bool = False) -> plain_paths.PlainCleared:
        """Empty the cache of plain files; ``force`` removes what was given out lately too."""
        return plain_paths.clear(self.parts, keep_hours=self.settings.cache_keep_hours, force=force)

    # -- tensors

    def tensor(
        self,
        spec: str,
        name: str,
        *,
        rows: Rows | None = None, dequantise: bool = False, member: str | None = None,
    ) -> NDArray[Any]:  # fmt: skip
        """Return a tensor (or ``rows``: a slice or (start, stop)) as a read-only numpy array.

        Where its bytes lie raw it is a view of the pack, checked but not copied. It stays valid
        when the store is closed and when ``gc`` moves the bytes. ggml's blocks come as uint8
        unless ``dequantise``. ``member`` names the file, where several have a tensor of that name.
        """
        return reading.tensor(
            self.parts, self.files, spec, name, rows=rows, dequantise=dequantise, member=member
        )

    def tensor_bytes(
        self, spec: str, name: str, *, bytes_range: slice | tuple[int, int] | None = None,
        member: str | None = None,
    ) -> memoryview:  # fmt: skip
        """Return a tensor's bytes as they lie in its file, read-only; see ``tensor``."""
        return reading.tensor_bytes(
            self.parts, self.files, spec, name, bytes_range=bytes_range, member=member
        )

    def tensor_reader(
        self, spec: str, name: str, *, member: str | None = None
    ) -> reading.TensorReader:
        """Look a tensor up once, to read parts of it often or into memory of your own.

        ``reader.decode_into(buffer, (start, stop))`` fills a buffer with bytes of the tensor.
        """
        return reading.tensor_reader(self.parts, self.files, spec, name, member=member)

    def tensors(self, spec: str, *, member: str | None = None) -> dict[str, reading.StoredTensor]:
        """Return {name: type, shape, file, digest} of a version's tensors."""
        return reading.list_tensors(self.parts, spec, member=member)

    def file(self, spec: str, member: str | None = None) -> io.BufferedReader:
        """Open a stored file for reading, as ``open(path, "rb")`` does; needs the store open."""
        return reading.open_file(self.parts, self.files, spec, member)

    def diff(
        self, a: str | os.PathLike[str], b: str | os.PathLike[str], *, values: bool = True,
        progress: Progress | None = None,
    ) -> diffing.Difference:  # fmt: skip
        """Compare two versions, or a version with a file or folder on disk. See `hart diff`."""
        return diffing.diff(self.parts, self.files, a, b, values=values, progress=progress)

    def scan(
        self, target: str | os.PathLike[str], *, hidden: bool = False,
        progress: Progress | None = None,
    ) -> scanning.ScanReport:  # fmt: skip
        """Tell what loading a version, or a file or folder on disk, would run. See `hart scan`."""
        return scanning.scan(self.parts, self.files, target, hidden=hidden, progress=progress)

    def explain(self, spec: str, name: str, *, member: str | None = None) -> explaining.Explained:
        """Say how a tensor is kept, who shares it and what that saves."""
        return explaining.explain(self.parts, self.files, spec, name, member=member)

    def relate(
        self, source: str, kind: str, target: str, *, weight: float | None = None, note: str = "",
        dry_run: bool = False,
    ) -> relating.Related:  # fmt: skip
        """State that ``source`` is ``kind`` (such as ``fine-tune-of``) ``target``."""
        return relating.relate(
            self.parts, source, kind, target, weight=weight, note=note, dry_run=dry_run
        )

    def unrelate(
        self, source: str, kind: str, target: str, *, dry_run: bool = False
    ) -> relating.Related:
        """Take a statement back."""
        return relating.unrelate(self.parts, source, kind, target, dry_run=dry_run)

    def relations(self, spec: str | None = None) -> tuple[relating.Statement, ...]:
        """Return what was stated with ``relate``, about one version or all."""
        return relating.statements(self.parts, spec)

    def lineage(
        self, spec: str, *, direction: descent.Direction = "both", depth: int = 3
    ) -> descent.Lineage:
        """Return what a version came from and what came from it, measured beside declared."""
        return descent.lineage(self.parts, self.files.atoms, spec, direction=direction, depth=depth)

    def impact(self, spec: str) -> weighing.Impact:
        """Say what depends on a version, and what removing it would free."""
        return weighing.impact(self.parts, spec)

    def search(
        self,
        text: str = "",
        *,
        where: finding.SearchFilter | str | None = None, top_k: int = 10, skip: int = 0,
        per_file: int | None = None, varied: bool = False, like: str | None = None,
        space: str | None = None, modality: str | None = None, update: bool = True,
        progress: Progress | None = None,
    ) -> finding.SearchResult:  # fmt: skip
        """Find passages, pictures, models and tensors by words and meaning. See `hart search`."""
        return finding.search(
            self.parts, self.files, text, where=where, top_k=top_k, skip=skip, per_file=per_file,
            varied=varied, near=self.spaces.meaning, like=like, space=space, modality=modality,
            update=update, progress=progress,
        )  # fmt: skip

    def embed(
        self, *, space: str | None = None, encoder: str | None = None, modality: str | None = None,
        switch: bool = False, patches: bool | None = None, dry_run: bool = False,
        progress: Progress | None = None,
    ) -> embedding.EmbedReport:  # fmt: skip
        """Compute the vectors that spaces lack. See `hart embed`."""
        options = embedding.EmbedOptions(
            space=space, encoder=encoder, modality=modality, switch=switch, patches=patches
        )
        return embedding.embed(
            self.parts, self.files, options=options, dry_run=dry_run, progress=progress
        )

    def similar_images(
        self, given: str | os.PathLike[str] | bytes, *, top_k: int = 10, member: str | None = None,
        update: bool = True, progress: Progress | None = None,
    ) -> resembling.SimilarPictures:  # fmt: skip
        """Find stored pictures like a path, a stored name or a file's bytes. See `hart similar`."""
        return resembling.similar_images(
            self.parts, self.files, given, top_k=top_k, member=member, update=update,
            progress=progress)  # fmt: skip

    def search_tensors(
        self,
        pattern: str = "*",
        *,
        role: str | None = None, dtype: str | None = None, shape: tuple[int, ...] | None = None,
        limit: int = 100,
    ) -> searching.FoundTensors:  # fmt: skip
        """Find tensors in use by name pattern or digest, role, type and shape."""
        return searching.search_tensors(
            self.parts, pattern, role=role, dtype=dtype, shape=shape, limit=limit
        )

    def nearest_tensors(
        self, spec: str, name: str, *, member: str | None = None
    ) -> tuple[searching.NearTensor, ...]:
        """Return the stored tensors that resemble one the most, nearest first."""
        return searching.nearest_tensors(self.parts, self.files, spec, name, member=member)

    # -- care

    def stats(self) -> counting.Stats:
        """Return what is stored, what it takes, and why."""
        return counting.stats(self.parts)

    def verify(
        self,
        *,
        quick: bool = False, files: bool = False, subset: Fraction = Fraction(1),
        repair: bool = False, max_duration_s: float | None = None,
        progress: Progress | None = None,
    ) -> verifying.VerifyReport:  # fmt: skip
        """Check that every stored byte is what it was."""
        return verifying.verify(
            self.parts, quick=quick, files=files, subset=subset, repair=repair,
            max_duration_s=max_duration_s, progress=progress)  # fmt: skip

    def gc(
        self,
        *,
        trash_days: float | None = None, grace_s: float = 3600,
        dry_run: bool = False, progress: Progress | None = None,
    ) -> Collected:  # fmt: skip
        """Free what nothing needs."""
        days = self.settings.trash_days if trash_days is None else trash_days
        return collecting.collect(
            self.parts, trash_days=days, event_days=self.settings.event_days,
            job_days=self.settings.job_days, grace_s=grace_s, dry_run=dry_run, progress=progress,
        )  # fmt: skip

    def repack(
        self,
        *,
        max_duration_s: float | None = None, again: bool = False, smallest: bool = False,
        dry_run: bool = False, progress: Progress | None = None,
    ) -> repacking.Repacked:  # fmt: skip
        """Encode anew what would take less now. See `hart repack`."""
        return repacking.repack(
            self.parts, max_duration_s=max_duration_s, again=again, smallest=smallest,
            dry_run=dry_run, progress=progress,
        )  # fmt: skip

    # -- copies

    def backup(
        self, folder: str | os.PathLike[str], *, keep: int | None = None, dry_run: bool = False,
        progress: Progress | None = None,
    ) -> backing_up.BackedUp:  # fmt: skip
        """Copy the store into a folder of snapshots. See `hart backup`."""
        return backing_up.backup(
            self.parts, Path(folder), keep=keep, dry_run=dry_run, progress=progress
        )

    def push(
        self, other: Store, names: Iterable[str] = (), *, as_name: str | None = None,
        rename: bool = False, dry_run: bool = False, progress: Progress | None = None,
    ) -> transferring.Transferred:  # fmt: skip
        """Bring another open store what it lacks of this one. See `hart push`."""
        options = transferring.TransferOptions(names=tuple(names), as_name=as_name, rename=rename)
        return transferring.receive(
            self.parts, other.parts, options=options, dry_run=dry_run, progress=progress
        )

    def pull(
        self, other: Store, names: Iterable[str] = (), *, as_name: str | None = None,
        rename: bool = False, dry_run: bool = False, progress: Progress | None = None,
    ) -> transferring.Transferred:  # fmt: skip
        """Bring this store what it lacks of another open one. See `hart pull`."""
        return other.push(
            self, names, as_name=as_name, rename=rename, dry_run=dry_run, progress=progress
        )
