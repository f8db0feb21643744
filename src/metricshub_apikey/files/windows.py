"""What Windows does its own way. Nothing here runs elsewhere."""

from __future__ import annotations

import ctypes
import os
import sys
import time

ATTEMPTS = 100
RETRY_SECONDS = 0.02
SHARING_VIOLATIONS = {5, 32, 33}  # access denied, sharing violation, lock violation

if sys.platform == "win32":

    def replace_file(source: str, target: str) -> None:
        """
        Rename *source* to *target*, retrying while a reader has the target open.

        Raises:
            OSError: It could not be done for two seconds.
        """
        for _ in range(ATTEMPTS):
            try:
                return _replace(source, target)
            except OSError as error:
                if error.winerror not in SHARING_VIOLATIONS:
                    raise
            time.sleep(RETRY_SECONDS)
        return _replace(source, target)

    def _replace(source: str, target: str) -> None:
        if not os.path.exists(target):
            return os.replace(source, target)
        # ReplaceFileW, unlike MoveFileEx, gives the new file the old one's access list.
        if not ctypes.windll.kernel32.ReplaceFileW(target, source, None, 0, None, None):
            raise ctypes.WinError()
        return None
