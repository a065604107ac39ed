"""Greets whoever is named in its first argument."""

from greeting import greeting
from wit_world import exports
from wit_world.imports import environment


class Run(exports.Run):
    def run(self) -> None:
        names = environment.get_arguments()[1:]
        print(greeting(names[0] if names else "world"))
