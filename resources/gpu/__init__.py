"""Models on the devices of this machine."""

import os

# Before torch is loaded. Its threads otherwise spin while they wait for each other, and on two cores
# that also serve the database they spin in place of the thread they wait for: measured, five times
# slower with one more busy process, and not faster without.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
