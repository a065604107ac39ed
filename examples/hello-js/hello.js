// The smallest application in JavaScript: one line on stdout.
export const run = {
  run() {
    console.log("¡Hola desde JavaScript y Qyvol!");
  },
};
