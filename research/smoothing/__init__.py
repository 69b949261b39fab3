"""Smoothing study: smoothers compared on whole recordings of subjects that the network was not trained on."""
