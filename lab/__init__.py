"""A whole LVS site on one machine, without root: hosts in the guest of an ordinary-process kernel."""
