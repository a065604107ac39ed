"""One line on stdout."""

import wit_world
from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        print("¡Hola desde Python!")
