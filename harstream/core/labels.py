"""Encoding of the label that is published when the model abstains."""

#: Published in place of a label when the model abstains. No label of a bundle may have this name, and no output of the
#: network stands for it.
UNKNOWN = "UNKNOWN"

#: Index of UNKNOWN in every array of label indices. It is -1, so that ``(*labels, UNKNOWN)[index]`` gives the name.
UNKNOWN_INDEX = -1
