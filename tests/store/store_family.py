"""A small family of models, floats, halves, fine-tunes, and what a store says of it."""

import numpy as np
from safetensors.numpy import save

from hartonomous.catalog import atoms

ROWS, COLUMNS = 256, 512


def normal(seed, shape=(ROWS, COLUMNS)):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.02).astype(np.float32)


def model(value):
    return save({"w": np.ascontiguousarray(value)})


def bfloat(value):
    """Return the upper halves of float32 numbers, rounded to nearest even, as safetensors BF16."""
    bits = value.view(np.uint32)
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)
    content = rounded.tobytes()
    shape = ",".join(str(one) for one in value.shape)
    header = f'{{"w":{{"dtype":"BF16","shape":[{shape}],"data_offsets":[0,{len(content)}]}}}}'
    header += " " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header.encode() + content


BASE = normal(1)
TUNED = BASE + normal(2) * np.float32(0.003)
FAMILY = {
    "base": model(BASE),
    "half": model(BASE.astype(np.float16)),
    "brain": bfloat(BASE),
    "tuned": model(TUNED),
    "tuned-half": model(TUNED.astype(np.float16)),
}


def fill(store, source, names, files=FAMILY):
    for name in names:
        store.add(source(f"{name}.safetensors", files[name]), name=name)


def stored(store):
    with store.parts.database.read() as tx:
        return sum(one.stored_bytes for one in atoms.stored_page(tx, after_id=0, limit=9999))


def depths(store):
    with store.parts.database.read() as tx:
        return {one.digest: one.depth for one in atoms.stored_page(tx, after_id=0, limit=9999)}


def edges(store):
    with store.parts.database.read() as tx:
        return sorted(tx.exec_driver_sql("SELECT atom_id, base_atom_id FROM atom_base").all())


def content_of(store, name, out):
    out.mkdir(exist_ok=True, parents=True)
    target = out / f"{name}-{len(list(out.iterdir()))}"
    store.get(name, target)
    return (target if target.is_file() else next(target.iterdir())).read_bytes()


def check(store, out, names, files=FAMILY):
    for name in names:
        assert content_of(store, name, out) == files[name], name
    report = store.verify(files=True)
    assert report.sound, report.faults
