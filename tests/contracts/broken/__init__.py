"""Parts that break the contract of their kind, in a way that the checks of `neurosbd.testing` must find."""
