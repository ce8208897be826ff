"""The process that the dock starts; see `job`."""

import sys

from napari_fctsfn.train.finetune.job import main

if __name__ == "__main__":
    sys.exit(main())
