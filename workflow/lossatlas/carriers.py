"""What no fingerprint counts, by name, and why: a change there must not run a job again.

Everything else that a job reaches counts, new packages included. A name here is a small module
("lease") or one definition of a module ("device:provenance"); what only it uses is left out too.
"""

from __future__ import annotations

_MESSAGE = "words of refusals: a value passes as it is, or nothing is made"
_WRITING = "writes what it is given; the file has a schema version and a checksum"
_GUARD = "surrounds a job: who runs it, where and when, not what it computes"
_TOLD = "stands beside the numbers of a result and decides none"
_CHOICE = "a table of choices: a job's entries name the one that it runs"
_NAME = "decides names of files, and stands in the parameters of the jobs that use them"

CARRIERS: dict[str, str] = {
    "errors": _MESSAGE,
    "files": _WRITING,
    "made": _TOLD,
    "entry": _GUARD,
    "installed": _MESSAGE,
    "kept": _GUARD,
    "lease": _GUARD,
    "slots": _GUARD,
    "warm": _GUARD,
    "watch": _GUARD,
    "carriers": _GUARD,
    "fingerprint": _GUARD,
    "modules": "finds files of the user's, which are counted themselves",
    "reach": _GUARD,
    "syntax": _GUARD,
    "userfiles": _GUARD,
    "paths": _NAME,
    "seal": "checksums of files; a file that does not match is refused",
    "timing": _TOLD,
    "training.state": "keeps unfinished work and gives it back as it was",
    # single definitions
    ":__version__": "a new version as such changes no number",
    "device:peak_gpu": _TOLD,
    "device:provenance": _TOLD,
    "measuring:_provenance": _TOLD,
    "metrics.parts:Parts": "keeps what was measured and gives it back as it was",
    "metrics.registry": _CHOICE,
    "plugins": _GUARD,
    "spec.catalogue:NETWORKS": _CHOICE,
    "spec.figures:FIGURES": _CHOICE,
    "spec.cells:Cell": "holds the parts of a specification; its text and its id are parameters",
    "training.job:Progress": _TOLD,
    "training.job:write_spec": _WRITING,
    # the schema of records, which has a version; reading them counts
    "store:SCHEMA": _WRITING,
    "store:Scalar": _WRITING,
    "store.series": _WRITING,
    "store.layout:dataset": _WRITING,
    "store.layout:write_series": _WRITING,
    "store.layout:write_tables": _WRITING,
    "store:Array": _WRITING,
    "store:Record": _WRITING,
    "store:write": _WRITING,
    "store:_check_whole": _MESSAGE,
    "store:_about": _TOLD,
    "store:read_about": _TOLD,
}
