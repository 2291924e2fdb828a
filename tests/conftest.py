"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no defect: how long one example takes is not what these tests are about.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
