"""Functions for `qyv call`: their types are in wit/app.wit."""

from greeting import greeting
from wit_world import exports


class Greetings(exports.Greetings):
    def greet(self, name: str) -> str:
        return greeting(name)

    def sum(self, numbers: list[int]) -> int:
        return sum(numbers)
