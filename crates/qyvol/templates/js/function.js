// Functions for `qyv call`: their types are in wit/app.wit.
import { greeting } from "./greeting.js";

export const greetings = {
  greet: greeting,

  // An s64 is a BigInt.
  sum(numbers) {
    return [...numbers].reduce((sum, number) => sum + BigInt(number), 0n);
  },
};
