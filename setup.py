"""What pyproject.toml cannot say: files beside the package go into the wheel with it."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PACKED = "lossatlas/packed"  # `lossatlas.paths` looks there first
FILES = {
    "resources": "resources/*",
    "report": "workflow/report/*.rst",
    "schemas": "workflow/schemas/*.json",
    "scripts": "workflow/*.py",  # digests of code count the script of a job
}


class BuildPy(build_py):
    """Build the package with its files; an editable one has them in the checkout."""

    def run(self) -> None:
        """Build, with nothing that an earlier build has left."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(Path(self.build_lib, "lossatlas"), ignore_errors=True)
        super().run()
        for name, pattern in FILES.items():
            folder = Path(self.build_lib, PACKED, name)
            folder.mkdir(parents=True)
            for file in sorted(ROOT.glob(pattern)):
                shutil.copyfile(file, folder / file.name)


setup(cmdclass={"build_py": BuildPy})
