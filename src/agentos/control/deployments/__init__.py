"""Which version of an agent serves where. In: versions and orders. Decided: what serves. Out: revisions, only added."""
