"""``python -m napari_restore_rwkv`` is the command ``restore-rwkv``."""

import sys

from .isolation import forget_working_folder

forget_working_folder(started_by_module=True)

from .commands.cli import main  # noqa: E402 - not before the line above

sys.exit(main())
