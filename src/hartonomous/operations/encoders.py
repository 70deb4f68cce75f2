"""Encoders: models of the store that turn texts and pictures into vectors.

Adding one adds its folder as an ordinary artifact, has it compute fixed texts and pictures, and
marks the version. Removing one takes the mark away; the model stays.
"""

import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hartonomous import locks
from hartonomous.catalog import spaces, versions
from hartonomous.core.name import check_name
from hartonomous.core.space import RECIPE_KEY
from hartonomous.errors import ConflictError, HartonomousError, NotFoundError, UsageError
from hartonomous.inference.encoder_files import read_recipe
from hartonomous.inference.recipe import QUANTISATIONS, EncoderRecipe, Quantisation
from hartonomous.packs.compared_files import is_there
from hartonomous.packs.encoder_probe import Probe, difference, probe
from hartonomous.packs.encoders import (
    EncoderCard,
    Kept,
    cards_in,
    cards_value,
    find_kept,
    kept_encoders,
    open_encoder,
    open_kept,
)
from hartonomous.packs.extra_packages import check_encode_extra
from hartonomous.packs.open_files import OpenFiles, VersionFiles, find_version
from hartonomous.packs.parts import StoreParts
from hartonomous.packs.publication import publication
from hartonomous.packs.session import WriteSession
from hartonomous.packs.stored_encoder import StoredEncoder, open_files_as_encoder
from hartonomous.ports.progress import NoProgress, Progress
from hartonomous.sources.hub_download import HUB_PREFIX, download, parse_hub_name
from hartonomous.sources.plain_folder import PlainFolder

AddFolder = Callable[..., Any]
"""``Store.add``: (path, *, name, metadata, progress) to a report of what was added."""


class EncoderShown(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder: the version it runs from, what it takes, and how it computes.

    ``dimensions`` are those of its vectors by modality. ``probe_difference`` is the largest
    difference between what it computed when it was added and what it computes here; None where
    that was not asked. ``changed`` says that this call added it or took it away. ``spaces`` are,
    where it is taken away, those whose vectors it made, ``searched`` those of them in use.
    """

    name: str
    version: str
    modalities: tuple[str, ...]
    dimensions: dict[str, int]
    quantisation: str
    pooling: str
    metric: str
    normalised: bool
    max_tokens: int | None
    query_prompt: str
    passage_prompt: str
    files: tuple[str, ...]
    digest: str
    same_results: bool | None = None
    probe_difference: float | None = None
    changed: bool = False
    spaces: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    dry_run: bool = False


class EncoderListed(msgspec.Struct, frozen=True, kw_only=True):
    """An encoder in a list."""

    name: str
    version: str
    dimensions: dict[str, int]
    quantisation: str
    digest: str


class Encoders:
    """``store.encoders``: adds, lists, opens and removes encoders."""

    def __init__(self, parts: StoreParts, files: OpenFiles, add: AddFolder) -> None:
        self._parts, self._files, self._add = parts, files, add

    def add(
        self,
        source: str | Path,
        *,
        name: str | None = None,
        quantisation: Quantisation = "f32",
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> EncoderShown:
        """Make a folder, ``hf:ORG/NAME@REVISION``, or a model of the store an encoder.

        ``name`` is the encoder's, and that of a folder's artifact; int8 gets ``-int8`` behind a
        name that is not given. A dry run needs no download and computes nothing; it tells what the
        files say. Raises UsageError for what is no encoder, ConflictError for a taken name.
        """
        if quantisation not in QUANTISATIONS:
            raise UsageError(f"{quantisation!r} is no quantisation: f32 or int8")
        if name is not None:
            check_name(name)
        progress = progress or NoProgress()
        if dry_run:
            return self._foreseen(source, name, quantisation)
        check_encode_extra()
        spec, is_new = self._stored(source, name, quantisation, progress)
        try:
            return self._tried(spec, name, quantisation, progress)
        except HartonomousError as error:
            if not is_new:
                raise
            raise _model_stays(error, spec) from error

    def ls(self) -> tuple[EncoderListed, ...]:
        """List the encoders of this store."""
        return tuple(
            EncoderListed(
                name=card.name, version=spec, dimensions=card.dimensions,
                quantisation=card.quantisation, digest=f"blake3:{card.digest}",
            )
            for spec, card in kept_encoders(self._parts)
        )  # fmt: skip

    def get(self, name: str) -> StoredEncoder:
        """Open an encoder; close it after use."""
        return open_encoder(self._parts, self._files, name)

    def show(self, name: str, *, check: bool = False) -> EncoderShown:
        """Tell how an encoder computes; ``check`` has it compute what it did when it was added."""
        kept = find_kept(self._parts, name)
        encoder = open_kept(self._parts, self._files, kept)
        try:
            found: Probe | None = probe(encoder) if check else None
        finally:
            encoder.close()
        return _shown(kept, encoder, found=found)

    def rm(self, name: str, *, dry_run: bool = False) -> EncoderShown:
        """Take the mark of an encoder away; its model stays, and so do vectors that it made."""
        kept = find_kept(self._parts, name)
        encoder = open_files_as_encoder(
            self._parts, self._files, find_version(self._parts, kept.spec),
            kept.card.quantisation, kept.card.name,
        )  # fmt: skip
        with self._parts.database.read() as tx:
            made = [
                one for one in spaces.listed(tx)
                if (one.space.encoder, one.space.encoder_digest)
                == (kept.card.name, kept.card.digest)
            ]  # fmt: skip
        if not dry_run:
            self._write_cards(kept.spec, lambda held: [one for one in held if one != kept.card])
        return msgspec.structs.replace(
            _shown(kept, encoder, changed=not dry_run, dry_run=dry_run),
            spaces=tuple(one.name for one in made),
            searched=tuple(one.name for one in made if one.state == spaces.CURRENT),
        )

    # -- adding

    def _tried(
        self, spec: str, name: str | None, quantisation: Quantisation, progress: Progress
    ) -> EncoderShown:
        """Have a stored model compute, and mark its version."""
        version = self._version(spec)
        chosen = name or _default_name(version, quantisation)
        progress.stage(f"try {chosen}")
        encoder = open_files_as_encoder(self._parts, self._files, version, quantisation, chosen)
        try:
            found = probe(encoder)
        finally:
            encoder.close()
        card = EncoderCard(
            name=chosen, quantisation=quantisation, digest=encoder.digest,
            dimensions=dict(encoder.dimensions), probe=found.numbers,
        )  # fmt: skip
        changed = self._mark(version, card)
        return _shown(Kept(version.spec, card), encoder, changed=changed)

    def _stored(
        self, source: str | Path, name: str | None, quantisation: Quantisation, progress: Progress
    ) -> tuple[str, bool]:
        """Bring the source into the store unless it is there; return ``NAME@X``, and if it is new.

        What the files alone tell is refused before anything is stored.
        """
        with self._folder(source, quantisation, progress) as given:
            if given is None:
                return str(source), False
            folder, default, metadata = given
            recipe = read_recipe(PlainFolder(folder), quantisation)
            check_encode_extra(texts=recipe.text is not None)
            report = self._add(
                str(folder), name=name or default, metadata=metadata, progress=progress
            )
        done = report.artifacts[0]
        if done.outcome == "failed":
            raise UsageError(f"{source} could not be added: {done.error}")
        return f"{done.name}@{done.number}", done.outcome != "unchanged"

    @contextmanager
    def _folder(
        self, source: str | Path, quantisation: Quantisation, progress: Progress
    ) -> Iterator[tuple[Path, str | None, dict[str, str]] | None]:
        """Yield (folder, its artifact's name, metadata); None for what is in the store already."""
        text = str(source)
        if text.startswith(HUB_PREFIX):
            asked = parse_hub_name(text)
            with self._fetching() as place:
                progress.stage(f"fetch {asked.repository}")
                commit = download(asked, place, quantisation)
                told = {"hub.repository": asked.repository, "hub.commit": commit}
                yield place, asked.repository, told
        elif Path(source).is_dir():
            yield Path(source), None, {}
        else:
            yield None

    @contextmanager
    def _fetching(self) -> Iterator[Path]:
        """Yield a folder to fetch into, which goes afterwards; one process fetches at a time.

        What a killed process left is there still, and goes first.
        """
        place = self._parts.directory / "tmp" / "hub"
        with locks.held(self._parts.lock_path("hub"), what="the lock of fetching from a hub"):
            shutil.rmtree(place, ignore_errors=True)
            try:
                yield place
            finally:
                shutil.rmtree(place, ignore_errors=True)

    def _foreseen(
        self, source: str | Path, name: str | None, quantisation: Quantisation
    ) -> EncoderShown:
        """Tell what adding would give, from the files alone."""
        text = str(source)
        if text.startswith(HUB_PREFIX):
            raise UsageError(
                "what lies on a hub is not known before it was fetched", hint="leave -n out"
            )
        if Path(source).is_dir():
            recipe = read_recipe(PlainFolder(Path(source)), quantisation)
            chosen = name or Path(source).resolve().name
            return _told(chosen, str(source), recipe, {}, "", dry_run=True)
        version = self._version(text)
        chosen = name or _default_name(version, quantisation)
        encoder = open_files_as_encoder(self._parts, self._files, version, quantisation, chosen)
        return _told(chosen, version.spec, encoder.recipe, {}, encoder.digest, dry_run=True)

    def _version(self, spec: str) -> VersionFiles:
        """Look up a model of the store; UsageError for one file, NotFoundError for nothing."""
        try:
            found = find_version(self._parts, spec)
        except NotFoundError as error:
            if is_there(spec):
                raise _one_file(spec) from error
            raise NotFoundError(
                f"{error.message}, and no folder of that path is there", hint=error.hint
            ) from error
        if len(found.files) == 1:
            raise _one_file(found.spec)
        return found

    def _mark(self, version: VersionFiles, card: EncoderCard) -> bool:
        """Write the card into the version's metadata; say whether that changed anything."""
        artifact = version.version.name
        for spec, other in kept_encoders(self._parts):
            if other.name == card.name and spec.rpartition("@")[0] != artifact:
                raise ConflictError(
                    f"there is an encoder {card.name} already, of {spec}",
                    hint="give another name with --name",
                )

        def with_it(held: list[EncoderCard]) -> list[EncoderCard]:
            same = any(one.name == card.name and one.digest == card.digest for one in held)
            return held if same else [*(one for one in held if one.name != card.name), card]

        return self._write_cards(version.spec, with_it)

    def _write_cards(
        self, spec: str, change: Callable[[list[EncoderCard]], list[EncoderCard]]
    ) -> bool:
        with WriteSession(self._parts) as session, publication(session) as work:
            version = find_version(self._parts, spec)
            with self._parts.database.read() as tx:
                _, metadata = versions.annotations_of(tx, version.version.id)
            held = cards_in(metadata.get(RECIPE_KEY, ""))
            wanted = change(held)
            if wanted == held:
                return False
            work.change(
                "annotate", version_uid=version.version.uid.hex(), tags=[],
                metadata={RECIPE_KEY: cards_value(wanted)},
            )  # fmt: skip
            work.finish()
        return True


def _model_stays(error: HartonomousError, spec: str) -> HartonomousError:
    """Return the error of a model that was stored and is no encoder, saying what is left of it."""
    remove = f"'hart rm {shlex.quote(spec)}' removes it"
    return type(error)(
        f"{error.message}; the model stays in the store as {spec}",
        hint=f"{error.hint}; {remove}" if error.hint else remove,
    )


def _one_file(what: str) -> UsageError:
    return UsageError(
        f"{what} is one file, and an encoder is a folder",
        hint="give the folder that holds the model's weights, config.json and tokenizer.json",
    )


def _default_name(version: VersionFiles, quantisation: Quantisation) -> str:
    name = version.version.name
    return name if quantisation == "f32" else f"{name}-{quantisation}"


def _shown(
    kept: Kept,
    encoder: StoredEncoder,
    *,
    found: Probe | None = None,
    changed: bool = False,
    dry_run: bool = False,
) -> EncoderShown:
    card = kept.card
    told = _told(
        card.name, kept.spec, encoder.recipe, card.dimensions, card.digest, dry_run=dry_run
    )
    apart = None if found is None else difference(card.probe, found.numbers)
    return msgspec.structs.replace(
        told, changed=changed, probe_difference=apart,
        same_results=None if apart is None else apart <= Probe.SAME,
    )  # fmt: skip


def _told(
    name: str,
    version: str,
    recipe: EncoderRecipe,
    dimensions: dict[str, int],
    digest: str,
    *,
    dry_run: bool,
) -> EncoderShown:
    text = recipe.text
    both = (("text", recipe.text), ("picture", recipe.picture))
    return EncoderShown(
        name=name,
        version=version,
        modalities=tuple(kind for kind, of in both if of is not None),
        dimensions=dimensions,
        quantisation=recipe.quantisation,
        pooling="graph" if text is None or text.tower else "+".join(text.pooling),
        metric=recipe.metric,
        normalised=text is not None and text.normalise,
        max_tokens=None if text is None else text.max_tokens,
        query_prompt="" if text is None else text.query_prompt,
        passage_prompt="" if text is None else text.passage_prompt,
        files=recipe.files,
        digest=f"blake3:{digest}" if digest else "",
        dry_run=dry_run,
    )
