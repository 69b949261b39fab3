"""The smoothing study: smoothers compared on held-out subjects."""
