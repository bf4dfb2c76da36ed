"""vla: train, evaluate and serve robot policies. What every verb of the command does is one call here.

    from vla import collect, evaluate, load_policy, open_dataset, train

The one facade of the project, and a lazy one: `import vla` loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vla.evaluation.evaluate import compare, evaluate
    from vla.library import (
        collect,
        fit_image_codec,
        load_image_codec,
        load_policy,
        open_dataset,
        search_dataset,
        train,
        train_seeds,
    )

    __version__: str

__all__ = [
    "__version__",
    "collect",
    "compare",
    "evaluate",
    "fit_image_codec",
    "load_image_codec",
    "load_policy",
    "open_dataset",
    "search_dataset",
    "train",
    "train_seeds",
]

_HOME = {"compare": "vla.evaluation.evaluate", "evaluate": "vla.evaluation.evaluate"}
"""Where a name is defined, if not in `vla.library`."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("vla")
    if name not in __all__:
        raise AttributeError(f"module 'vla' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOME.get(name, "vla.library")), name)
