"""The embedded demo world: drawn scenes, and tiny models trained on them.

It gives the tool something to run on without a download. `world` finds, draws and exports it;
`recipe` trains it anew. Importing this package, `world` or `dataset` loads neither torch nor
transformers.
"""

from semseg_cli.demo.world import (
    WorldFiles,
    ensure_world,
    export,
    shipped_files,
    world_folder,
)

__all__ = ["WorldFiles", "ensure_world", "export", "shipped_files", "world_folder"]
