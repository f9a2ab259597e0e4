"""Networks of other libraries come in and go out: torch modules, snnTorch, Norse, SpikingJelly, NIR, SONATA.

None of the libraries is imported before it is needed.
"""

from neurosbd.interchange.adapter import Cell
from neurosbd.interchange.nir_reader import from_nir
from neurosbd.interchange.nir_writer import to_nir
from neurosbd.interchange.sequential import from_torch
from neurosbd.interchange.sonata_reader import from_sonata

__all__ = ["Cell", "from_nir", "from_sonata", "from_torch", "to_nir"]
