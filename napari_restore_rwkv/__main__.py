"""``python -m napari_restore_rwkv`` is the command ``restore-rwkv``."""

import sys

from .cli import main

sys.exit(main())
