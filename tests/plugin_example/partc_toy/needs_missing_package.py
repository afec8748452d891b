"""A pass whose package is not installed: only those who ask for it are told."""

import package_that_nobody_has  # type: ignore[import-not-found]

Never = package_that_nobody_has.Never
