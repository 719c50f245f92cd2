"""What goes into MLflow, and how.

Importing this package prepares MLflow's own import, which reads its switches only then: so
`dreamorph.settings` imports it before anything else.
"""

import os
import warnings

from dreamorph.telemetry import switch_off

switch_off()
# What is shown is said in conf/logging.yml alone.
os.environ["MLFLOW_CONFIGURE_LOGGING"] = "false"
# The address of a server may hold a password; `kedro dashboard` tells it without.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"

# What libraries say about themselves or each other, and a user can do nothing about.
warnings.filterwarnings("ignore", message="The ``noload`` loader strategy is deprecated")
warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
