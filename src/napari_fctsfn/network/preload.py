"""Load triton so that its LLVM and the one of a software OpenGL do not meet.

The Linux wheels of torch bring triton, which carries its own LLVM and exports its symbols. Mesa's
software renderer loads another LLVM into the process as soon as a window is drawn. Importing
triton after that (torch's optimizers and torchvision do, through ``torch._dynamo``) then binds to
the wrong LLVM and ends the process with a segmentation fault. Bound to its own symbols first,
triton is harmless.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec


def preload_triton() -> None:
    """Import triton bound to its own symbols, where it is installed and not loaded yet.

    Does nothing outside Linux and where triton is missing. To be called before
    ``torch._dynamo`` is imported.
    """
    if sys.platform != "linux" or "triton" in sys.modules or find_spec("triton") is None:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        import_module("triton._C.libtriton")
    finally:
        sys.setdlopenflags(flags)
