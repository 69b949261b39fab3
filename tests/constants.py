"""Constants that several test files use."""

from __future__ import annotations

from harstream.core.spec import Normalisation, SignalSpec

#: One second in nanoseconds.
SECOND = 1_000_000_000
#: Event time of the first sample, long before the time of arrival, because event time decides. It is no whole second.
T0_NS = 1_763_668_800_020_000_000
#: Labels of the small bundle with random weights.
LABELS = ("WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING")
#: Labels and states of the same network as a model that knows transitions.
STATE_LABELS, STATES = ("WALKING", "SITTING", "STANDING", "LAYING"), ("SIT_TO_STAND", "STAND_TO_SIT")
#: Signal of that bundle; its normalisation changes every window, so that a test notices if it is left out.
SPEC = SignalSpec(normalisation=Normalisation((0.1, -0.1, 0.05) * 3, (0.25, 0.3, 0.2) * 3))
#: Address on which nobody listens. It is not from `free_port`, because a free port may become occupied.
UNREACHABLE = "127.0.0.1:1"
