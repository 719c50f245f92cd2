"""From a folder of scans to one cohort of comparable volumes, split by subject.

The way is `scan` (files) -> `validate` (quarantine) -> `assign_splits` -> `preprocess` -> `Cohort`;
`load_cohort` walks it in one call. File paths stay in the tables of the first three steps, which
belong on the local disk; a `Cohort` and the tables of `published` carry none.
"""
