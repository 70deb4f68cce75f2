"""What loading a pickle would import and call: each name allowed, unknown or dangerous.

``allowed`` are the exact names that PyTorch's own checkpoints need and that do nothing but make
values. ``dangerous`` are names that run commands, open files, import or change things, or that make
a name while loading. Everything else is ``unknown``: mostly classes of the program that wrote
the file, of which only that program says what they do. The verdict is on names alone; nothing is
looked up.
"""

from collections.abc import Iterable
from typing import Final

from hartonomous.formats.inert_pickle import BUILT_NAME, CHANGED
from hartonomous.formats.pickle_values import Global
from hartonomous.formats.torch_dtype import DTYPE_NAMES, STORAGE_DTYPES

ALLOWED: Final = "allowed"
UNKNOWN: Final = "unknown"
DANGEROUS: Final = "dangerous"

_NAME_CHARACTERS = 200

_ALLOWED = frozenset(
    {
        "collections.OrderedDict", "collections.defaultdict", "collections.Counter",
        "collections.deque", "builtins.set", "builtins.frozenset", "builtins.list",
        "builtins.dict", "builtins.tuple", "builtins.int", "builtins.float", "builtins.bool",
        "builtins.str", "builtins.bytes", "builtins.bytearray", "builtins.complex",
        "builtins.object", "builtins.slice", "builtins.range", "_codecs.encode",
        "torch.Size", "torch.device", "torch.Tensor", "torch.nn.parameter.Parameter",
        "torch.nn.parameter.Buffer", "torch.serialization._get_layout", "torch.strided",
        "torch.sparse_coo", "torch.sparse_csr", "torch.per_tensor_affine",
        "torch.per_channel_affine", "torch.contiguous_format", "torch.channels_last",
        "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state", "torch._utils._rebuild_qtensor",
        "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_sparse_csr_tensor",
        "torch._utils._rebuild_nested_tensor", "torch._utils._rebuild_meta_tensor_no_storage",
        "torch._utils._rebuild_device_tensor_from_numpy", "torch._tensor._rebuild_from_type_v2",
        "torch.storage.UntypedStorage", "torch.storage.TypedStorage", "torch.UntypedStorage",
        "numpy.dtype", "numpy.ndarray", "numpy.core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct", "numpy._core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct", "pathlib.PosixPath", "pathlib._local.PosixPath",
    }
    | {f"torch.distributed.checkpoint.metadata.{name}" for name in (
        "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata",
        "MetadataIndex", "TensorProperties", "StorageMeta", "_MEM_FORMAT_ENCODING",
    )}
    | {"torch.distributed.checkpoint.filesystem._StorageInfo"}
    | {f"torch.{name}" for name in DTYPE_NAMES}
    | {f"torch.{name}" for name in STORAGE_DTYPES}
    | {f"torch.cuda.{name}" for name in STORAGE_DTYPES}
)  # fmt: skip

_DANGEROUS_MODULES = frozenset(
    {
        "_aix_support", "_bootsubprocess", "_ctypes", "_frozen_importlib",
        "_frozen_importlib_external", "_functools", "_io", "_multiprocessing", "_operator",
        "_osx_support", "_pickle", "_posixshmem", "_posixsubprocess", "_pyio", "_pyrepl", "_socket",
        "_sqlite3", "_ssl", "_testcapi", "_thread", "_winapi", "_winreg", "aiohttp", "antigravity",
        "asyncio", "atexit", "bdb", "bz2", "cProfile", "cffi", "cgi", "cloudpickle", "code",
        "codeop", "commands", "compileall", "concurrent", "copyreg", "crypt", "ctypes", "curses",
        "dbm", "dill", "distutils", "docker", "doctest", "ensurepip", "faulthandler", "fcntl",
        "fileinput", "fsspec", "ftplib", "functools", "gc", "getpass", "glob", "gzip", "http",
        "httplib", "httpx", "hydra", "idlelib", "imaplib", "imp", "importlib", "inspect", "io",
        "joblib", "jsonpickle", "lib2to3", "linecache", "logging", "lzma", "mailbox", "marshal",
        "mlflow", "mmap", "modulefinder", "msvcrt", "multiprocessing", "netrc", "nis", "nntplib",
        "nt", "ntpath", "numexpr", "operator", "os", "paramiko", "pathlib", "pdb", "pexpect",
        "pickle", "pip", "pkgutil", "popen2", "poplib", "posix", "posixpath", "profile", "pstats",
        "psutil", "pty", "py_compile", "pyclbr", "pydoc", "pyrepl", "readline", "requests",
        "resource", "rlcompleter", "runpy", "sched", "select", "selectors", "setuptools", "sh",
        "shelve", "shutil", "signal", "site", "smtpd", "smtplib", "socket", "socketserver", "spwd",
        "sqlite3", "ssl", "subprocess", "symtable", "sys", "sysconfig", "syslog", "tarfile",
        "telnetlib", "tempfile", "threading", "timeit", "tkinter", "trace", "tracemalloc",
        "turtle", "types", "unittest", "urllib", "urllib2", "urllib3", "venv", "warnings",
        "webbrowser", "winreg", "wsgiref", "xmlrpc", "yaml", "zipapp", "zipfile", "zipimport",
    }
)  # fmt: skip
_HARMLESS = frozenset(
    {
        "copyreg._reconstructor", "copyreg.__newobj__",
        "joblib.numpy_pickle.NumpyArrayWrapper",  # says type and shape of the array behind it
    }
)  # fmt: skip
_HARMLESS_BUILTINS = frozenset({"Exception", "ValueError", "RuntimeError", "KeyError", "type"})
_TELLING = frozenset({"os", "sys", "subprocess", "importlib", "system", "popen", "eval", "exec"})
_DANGEROUS_NAMES = frozenset(
    {
        "torch.load", "torch.save", "torch.hub", "torch.storage._load_from_bytes",
        "torch.serialization.load", "torch.jit.load", "torch.compile", "numpy.load", "numpy.save",
        "numpy.fromfile", "numpy.testing._private.utils.runstring", "codecs.open",
        "codecs.EncodedFile", "uuid._get_command_stdout", "uuid._popen", "platform._syscmd_file",
        "platform._syscmd_ver", "pandas.eval", "pandas.read_pickle", "keras.models.load_model",
        "tensorflow.load_library", "tensorflow.load_op_library", "sklearn.externals.joblib.load",
    }
)  # fmt: skip
_DANGEROUS_PREFIXES = (
    "torch.hub.", "torch.utils.cpp_extension.", "torch.ops.", "torch._ops.", "torch.testing.",
    "torch.multiprocessing.", "torch.distributed.elastic.", "torch.fx.", "torch._dynamo.",
    "torch._inductor.", "torch.utils.collect_env.", "torch.utils.bottleneck.", "numpy.testing.",
    "numpy.f2py.", "numpy.distutils.", "torch.package.", "torch.utils._config_module.",
    "torch.utils.data.datapipes.", "torch.utils.model_zoo.", "torch.distributed.rpc.",
    "torch.jit.unsupported_tensor_ops.", "test.support.", "pandas.io.pickle.",
    "transformers.dynamic_module_utils.",
)  # fmt: skip


def verdict(name: Global) -> str:
    """Return ``allowed``, ``unknown`` or ``dangerous``."""
    path = name.path
    if path in _ALLOWED:
        return ALLOWED
    if name is BUILT_NAME or path.endswith(CHANGED) or path.startswith("(copyreg extension)"):
        return DANGEROUS
    if path in _HARMLESS:
        return ALLOWED
    module, _, rest = path.partition(".")
    if module in ("builtins", "__builtins__"):
        return UNKNOWN if rest in _HARMLESS_BUILTINS else DANGEROUS
    if module in _DANGEROUS_MODULES or path in _DANGEROUS_NAMES:
        return DANGEROUS
    if path.startswith(_DANGEROUS_PREFIXES) or _reaches_inside(name):
        return DANGEROUS
    return UNKNOWN


def _reaches_inside(name: Global) -> bool:
    """Say whether a name goes on inside an imported object (`torch.os.system` as `os.system`)."""
    parts = name.name.split(".")
    named = _DANGEROUS_MODULES if len(parts) > 1 else _TELLING
    return any(part in named or part.startswith("__") for part in parts)


def listed(names: Iterable[Global]) -> list[dict[str, str]]:
    """Return ``[{"name", "verdict"}]``: dangerous ones first, then unknown ones, then by name."""
    ranks = {DANGEROUS: 0, UNKNOWN: 1, ALLOWED: 2}
    found = {(ranks[verdict(name)], _shown(name)): verdict(name) for name in names}
    return [{"name": name, "verdict": said} for (_, name), said in sorted(found.items())]


def _shown(name: Global) -> str:
    path = name.path.encode("utf-8", "backslashreplace").decode()
    return path if len(path) <= _NAME_CHARACTERS else f"{path[:_NAME_CHARACTERS]}..."
